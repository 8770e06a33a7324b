using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.FlipBytes;

/// <summary>
/// Whatever byte of a repository changes: a verification blames the object that holds it and names exactly the bytes of
/// the recovery points that are lost; a restore of them is refused and never writes a wrong byte; all others succeed.
/// </summary>
internal sealed class FlipBytesProof : IProof
{
    private long _flips;
    private long _restores;

    public string Name => "flip-bytes";

    public IReadOnlyList<(string Name, string What)> Sabotages => FlipRun.Defects;

    public (int Long, int Short) TrialsMax => (300, 300);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(15);

    public string Figures => $"{_flips} flipped bytes, {_restores} restores";

    public Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        foreach (var trial in trials)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Run(options, trial, () => isLate() || cancellationToken.IsCancellationRequested);
        }
        return Task.CompletedTask;
    }

    private void Run(ProofOptions options, int trial, Func<bool> isLate) => SingleThread.Run(async thread =>
    {
        await using var run = new FlipRun(thread, options, trial);
        try
        {
            await run.RunAsync(isLate);
        }
        finally
        {
            _flips += run.Flips;
            _restores += run.Restores;
        }
    });
}

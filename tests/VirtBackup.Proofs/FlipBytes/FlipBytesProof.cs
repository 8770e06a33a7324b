using VirtBackup.Proofs.Simulation;

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

    public IReadOnlyList<string> Sabotages { get; } = [.. FlipRun.Defects];

    public int DefaultTrials => 300;

    public string Figures => $"{_flips} flipped bytes, {_restores} restores";

    public void Run(ProofOptions options, int trial, Func<bool> isLate) => SingleThread.Run(async thread =>
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

using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.StateResume;

/// <summary>Two guests that talk to each other go on talking after both were captured at one instant, destroyed and restored.</summary>
internal sealed class StateResumeProof : IProof
{
    private const int MessagesMin = 1000;
    private readonly List<Trial> _done = [];

    public string Name => "state-resume";

    public IReadOnlyList<(string Name, string What)> Sabotages => StateResume.Sabotages.All;

    public (int Long, int Short) TrialsMax => (10, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(10);

    public string Figures => _done.Count == 0 ? "nothing was restored"
        : string.Create(System.Globalization.CultureInfo.InvariantCulture,
            $"{_done.Count} restores of two guests, {_done.Sum(trial => trial.Messages)} further messages without gap or reset; stood still {_done.Min(trial => trial.PausedMs):0} to {_done.Max(trial => trial.PausedMs):0} ms");

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        await using var pair = await Pair.BootAsync(options, cancellationToken);
        foreach (var trial in trials)
        {
            cancellationToken.ThrowIfCancellationRequested();
            // The instant is anywhere in the course of an exchange.
            await Task.Delay(options.RandomOf(trial, 1).Next(300), cancellationToken);
            var before = await pair.LookAsync(cancellationToken);
            var pausedMs = await pair.CaptureAndDestroyAsync(cancellationToken);
            await pair.RestoreAsync();
            _done.Add(new Trial(await pair.RequireGoingOnAsync(before, MessagesMin, cancellationToken), pausedMs));
        }
    }

    private sealed record Trial(long Messages, double PausedMs);
}

using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Migration;

/// <summary>What is said of a downtime is what it was; it was predicted; and a warm move interrupts for less time than a cold one.</summary>
internal sealed class DowntimeProof : IProof
{
    private DowntimeTrials? _running;

    public string Name => "migration-downtime";

    public IReadOnlyList<(string Name, string What)> Sabotages { get; } =
    [
        (DowntimeTrials.ShortClaim, "reads ten seconds less than the product tells"),
        (DowntimeTrials.Unscored, "forgets what was predicted"),
    ];

    public (int Long, int Short) TrialsMax => (12, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(12);

    public string Figures => _running?.Figures ?? "";

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        await using var run = await DowntimeTrials.PrepareAsync(options, cancellationToken);
        _running = run;
        foreach (var trial in trials)
        {
            await run.RunAsync(trial, cancellationToken);
        }
        run.Judge();
    }
}

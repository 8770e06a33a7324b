using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Migration;

/// <summary>Whoever is killed at whatever moment of a migration: one machine runs at the end, its disk is right, and nothing is left behind.</summary>
internal sealed class FaultsProof : IProof
{
    private FaultTrials? _running;

    public string Name => "migration-faults";

    public IReadOnlyList<(string Name, string What)> Sabotages { get; } =
    [
        (FaultTrials.SecondCopy, "starts a second process with the machine's UUID, as a source would that comes back beside its target"),
        (FaultTrials.LostWrite, "drops a range of the disk behind the migration, as an increment would that was not applied"),
        (FaultTrials.LeftFile, "leaves a file in the place that the machine left or did not reach"),
    ];

    public (int Long, int Short) TrialsMax => (400, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(12);

    public string Figures => _running?.Figures ?? "";

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        await using var run = await FaultTrials.PrepareAsync(options, cancellationToken);
        _running = run;
        foreach (var trial in trials)
        {
            await run.RunAsync(trial, cancellationToken);
            if (!options.Short) Console.WriteLine($"trial {trial}: {run.LastStory}");
        }
    }
}

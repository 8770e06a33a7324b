using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Migration;

/// <summary>Whoever is killed at whatever moment of a migration: one machine runs at the end, its disk is right, and nothing is left behind.</summary>
internal sealed class FaultsProof : IProof
{
    private const int Kind = 21;
    private FaultTrials? _hosts;
    private MirrorTrials? _mirrors;

    public string Name => "migration-faults";

    public IReadOnlyList<(string Name, string What)> Sabotages { get; } =
    [
        (FaultTrials.SecondCopy, "starts a second process with the machine's UUID, as a source would that comes back beside its target"),
        (FaultTrials.LostWrite, "drops a range of the disk behind the migration, as an increment would that was not applied"),
        (FaultTrials.LeftFile, "leaves a file in the place that the machine left or did not reach"),
    ];

    public (int Long, int Short) TrialsMax => (400, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(12);

    public string Figures => string.Join(' ', new[] { _hosts?.Figures, _mirrors?.Figures }.OfType<string>());

    // Each kind has a stage of its own, set when its first trial comes: a run of one trial sets one.
    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        try
        {
            foreach (var trial in trials)
            {
                var story = options.RandomOf(trial, Kind).Next(3) == 0 ? await MirrorAsync(options, trial, cancellationToken) : await MigrateAsync(options, trial, cancellationToken);
                if (!options.Short) Console.WriteLine($"trial {trial}: {story}");
            }
            _hosts?.RequireStrikes();
            _mirrors?.RequireStrikes();
        }
        finally
        {
            if (_hosts is not null) await _hosts.DisposeAsync();
            if (_mirrors is not null) await _mirrors.DisposeAsync();
        }
    }

    private async Task<string> MigrateAsync(ProofOptions options, int trial, CancellationToken cancellationToken)
    {
        _hosts ??= await FaultTrials.PrepareAsync(options, cancellationToken);
        await _hosts.RunAsync(trial, cancellationToken);
        return _hosts.LastStory;
    }

    private async Task<string> MirrorAsync(ProofOptions options, int trial, CancellationToken cancellationToken)
    {
        _mirrors ??= await MirrorTrials.PrepareAsync(options, cancellationToken);
        await _mirrors.RunAsync(trial, cancellationToken);
        return _mirrors.LastStory;
    }
}

using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.Faults;

/// <summary>
/// Whatever link is cut and whichever controller is killed while two or three sites replicate: the replicas converge, list nothing
/// that is not whole, and what travels is little more than what was missing. A trial is some backups, and faults while they are pulled.
/// </summary>
internal sealed class FaultsProof : IProof
{
    /// <summary>Trials of one set of sites; then others are made, with other links.</summary>
    private const int TrialsOfStage = 10;

    private readonly FaultTally _tally = new();

    public string Name => "replication-faults";

    public IReadOnlyList<(string Name, string What)> Sabotages { get; } =
    [
        (FaultTrial.SpoiledPack, "some bytes of a pack of the replica are other ones"),
        (FaultTrial.ForgottenPoint, "the replica forgets a recovery point"),
        (FaultTrial.SentTwice, "as much as was missing travels once more"),
        (FaultTrial.OtherDisk, "a byte of a restored disk is another one"),
    ];

    public (int Long, int Short) TrialsMax => (200, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(12);

    public string Figures => _tally.ToString();

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        var stage = default(FaultStage);
        try
        {
            foreach (var trial in trials)
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (stage is not null && stage.Number != trial / TrialsOfStage) await EndAsync();
                stage ??= await FaultStage.SetAsync(options, trial / TrialsOfStage, cancellationToken);
                await new FaultTrial(stage, options, trial, _tally).RunAsync(cancellationToken);
            }
            if (stage is not null) await EndAsync();
            _tally.Require();
        }
        finally
        {
            if (stage is not null) await stage.DisposeAsync();
        }

        async Task EndAsync()
        {
            var ended = stage!;
            await ended.RequireAllAsync(_tally);
            stage = null;
            await ended.DisposeAsync();
        }
    }
}

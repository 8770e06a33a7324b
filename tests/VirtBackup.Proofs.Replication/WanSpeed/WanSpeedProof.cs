using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.WanSpeed;

/// <summary>
/// Over a link of 200 Mbit/s replication is at least 0.9 times as fast as a bare TLS stream of the same bytes, whatever the round
/// trip; and a disk of 1 TiB that has not changed costs less than 100 KiB. A trial is one comparison for each round trip.
/// </summary>
internal sealed class WanSpeedProof : IProof
{
    private WanRun? _running;

    public string Name => "wan-speed";

    public IReadOnlyList<(string Name, string What)> Sabotages { get; } =
    [
        (WanRun.HalfRate, "replication may take half of the link only"),
        (WanRun.ChangedDisk, "1 MiB of the disk that has not changed is written meanwhile"),
    ];

    public (int Long, int Short) TrialsMax => (3, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(15);

    public string Figures => _running?.Figures ?? "";

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        await using var run = _running = new WanRun(options);
        await run.PrepareAsync(cancellationToken);
        foreach (var trial in trials)
        {
            await run.CompareAsync(trial, cancellationToken);
        }
        run.Judge();
        await run.RequireUnchangedIsCheapAsync(cancellationToken);
    }
}

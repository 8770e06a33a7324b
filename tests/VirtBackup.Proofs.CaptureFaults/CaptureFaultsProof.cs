using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CaptureFaults;

/// <summary>
/// Whatever dies in the middle of a capture or a restore, the guest lives, is thawed and has seen no error, its disks are
/// whole, and the next run is right.
/// </summary>
internal sealed class CaptureFaultsProof : IProof
{
    private FaultRun? _running;

    public string Name => "capture-faults";

    public IReadOnlyList<(string Name, string What)> Sabotages => CaptureFaults.Sabotages.All;

    public (int Long, int Short) TrialsMax => (500, 2);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(12);

    public string Figures => _running?.Figures ?? "";

    public Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken) =>
        FaultRun.RunAsync(options, trials, run => _running = run, cancellationToken);
}

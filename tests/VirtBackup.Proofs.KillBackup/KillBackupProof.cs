using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.KillBackup;

/// <summary>What is killed in the middle of backups loses nothing that was committed, and the next backup misses nothing.</summary>
internal sealed class KillBackupProof : IProof
{
    private KillProof? _running;

    public string Name => "kill-backup";

    public IReadOnlyList<(string Name, string What)> Sabotages => KillBackup.Sabotages.All;

    public (int Long, int Short) TrialsMax => (100, 2);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(25);

    public string Figures => _running?.Figures ?? "";

    public Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken) =>
        KillProof.RunAsync(options, trials, proof => _running = proof, cancellationToken);
}

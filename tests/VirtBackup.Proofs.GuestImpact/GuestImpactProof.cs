using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.GuestImpact;

/// <summary>A guest's writes hardly become slower by a backup, whatever the controller does meanwhile.</summary>
internal sealed class GuestImpactProof : IProof
{
    private readonly Latencies _latencies = new();

    public string Name => "guest-impact";

    public IReadOnlyList<(string Name, string What)> Sabotages => GuestImpact.Sabotages.All;

    public (int Long, int Short) TrialsMax => (5, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(10);

    public string Figures => _latencies.Figures;

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        await using var stage = await Stage.SetAsync(options, _latencies, cancellationToken);
        foreach (var trial in trials)
        {
            cancellationToken.ThrowIfCancellationRequested();
            await stage.TryAsync(trial, cancellationToken);
        }
        // One run is no median of five: the short form only finds what is far off.
        _latencies.Require(options.Short ? 5 : 2);
    }
}

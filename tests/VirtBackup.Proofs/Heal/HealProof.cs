using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Heal;

/// <summary>
/// Two repositories hold the same records. A random hundredth of the chunks is damaged in one and a disjoint hundredth in
/// the other, then a hundredth of the map nodes: each is healed from the other, entirely, and moves only the damaged records.
/// </summary>
internal sealed class HealProof : IProof
{
    private readonly HealFigures _figures = new();

    public string Name => "heal";

    public IReadOnlyList<(string Name, string What)> Sabotages => HealRun.Defects;

    public (int Long, int Short) TrialsMax => (20, 2);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(3);

    public string Figures => _figures.ToString();

    public Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        foreach (var trial in trials)
        {
            cancellationToken.ThrowIfCancellationRequested();
            SingleThread.Run(async thread =>
            {
                await using var run = new HealRun(thread, options, trial, _figures);
                await run.RunAsync();
            });
        }
        return Task.CompletedTask;
    }
}

/// <summary>What was damaged and what was moved.</summary>
internal sealed class HealFigures
{
    private readonly SortedDictionary<WoundKind, int> _ways = [];

    public long Chunks { get; set; }
    public long DamagedChunks { get; set; }
    public long DamagedNodes { get; set; }
    public long DamagedBytes { get; set; }
    public long MovedBytes { get; set; }

    public void Add(Wounds wounds)
    {
        DamagedBytes += wounds.Bytes;
        foreach (var (way, count) in wounds.Ways)
        {
            _ways[way] = _ways.GetValueOrDefault(way) + count;
        }
    }

    public override string ToString() =>
        FormattableString.Invariant($"damaged and healed {DamagedChunks} of {Chunks} chunks and {DamagedNodes} map nodes; moved {MovedBytes} bytes, ")
        + FormattableString.Invariant($"{(double)MovedBytes / Math.Max(1, DamagedBytes):0.000} of the damaged records; ways: {string.Join(", ", _ways.Select(way => $"{way.Key} {way.Value}"))}");
}

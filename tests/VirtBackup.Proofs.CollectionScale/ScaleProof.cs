using System.Globalization;
using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Proofs.CollectionScale.Measuring;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CollectionScale;

/// <summary>
/// Deleting one recovery point costs the same whether the repository holds a million chunks or ten: rows, nodes, bytes and
/// peak memory within 10 % of each other, time within half.
/// </summary>
internal sealed class ScaleProof(long? chunks) : IProof
{
    private const double Tolerance = 0.10;
    private const double WallRatioMax = 1.5;

    // A second of other work on the machine spoils the short form's times, but not both of them.
    private const double ShortRatioMax = 3;
    private const long PeakLimitKiB = 1 << 20;

    /// <summary>Of the proof and of its script.</summary>
    public const string ProofName = "collection-scale";

    public string Name => ProofName;

    public IReadOnlyList<(string Name, string What)> Sabotages => CollectionScale.Sabotages.All;

    public (int Long, int Short) TrialsMax => (1, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(60);

    public string OwnOptions => chunks is { } size ? $" --chunks {size}" : "";

    public string Figures { get; private set; } = "";

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        foreach (var trial in trials)
        {
            var seed = (ulong)ProofOptions.HashCode(options.Seed, trial, 0);
            if (chunks is { } only)
            {
                var figures = await MeasureAsync(HistoryShape.Long(only), seed, options, audit: true, cancellationToken);
                Judge(FindViolations(only, figures), $"chunks={only} peak={figures.PeakKiB / 1024.0:0.0}MiB wall={figures.MedianOf(static cost => cost.WallSeconds):0.00}s");
                continue;
            }
            var (small, large) = options.Short ? (HistoryShape.Short(200_000), HistoryShape.Short(1_000_000)) : (HistoryShape.Long(1_000_000), HistoryShape.Long(10_000_000));
            large = CollectionScale.Sabotages.Change(options.Sabotage, large);
            var ofSmall = await MeasureAsync(small, seed, options, audit: true, cancellationToken);
            var ofLarge = await MeasureAsync(large, seed, options, audit: !options.Short, cancellationToken);
            Compare(small, ofSmall, large, ofLarge, options.Short);
        }
    }

    private static async Task<SizeFigures> MeasureAsync(HistoryShape shape, ulong seed, ProofOptions options, bool audit, CancellationToken cancellationToken)
    {
        options.RequireSpace(SizeRun.NeededBytes(shape));
        using var size = new SizeRun(
            new SizeJob(shape, seed, options.Sabotage), Path.Combine(options.Work, $"collection-scale-{Path.GetRandomFileName()[..6]}"));
        Say($"{shape.Chunks} chunks, {shape.Machines} machines with {shape.PointsPerMachine} recovery points each, disks of {shape.DiskChunks} chunks");
        var generation = await size.GenerateAsync(cancellationToken);
        Say($"  generated: {generation.Nodes} nodes, {generation.Packs} packs; trees in {generation.TreeSeconds:0.0} s, index in {generation.IndexSeconds:0.0} s; "
            + $"sorted insert of objects {generation.RowsPerSecond:0} rows/s");
        var figures = await size.MeasureAsync(cancellationToken);
        Say($"  opened in {figures.OpeningSeconds:0.0} s, peak {MiB(figures.OpeningPeakKiB)}");
        Say($"  a deletion: {figures.MeanOf(static cost => cost.Rows):0.0} rows, {figures.MeanOf(static cost => cost.Nodes):0.0} nodes and "
            + $"{figures.MeanOf(static cost => cost.Bytes):0} bytes reported; {figures.MeanOf(static cost => cost.Delivered):0.0} rows delivered or changed, "
            + $"{figures.MeanOf(static cost => cost.StoreBytes):0} bytes read from the store, {figures.MeanOf(static cost => cost.FileBytes) / (1 << 20):0.0} MiB from files");
        Say($"  wall {string.Join(' ', figures.Deletions.Select(static cost => cost.WallSeconds.ToString("0.00", CultureInfo.InvariantCulture)))} s, "
            + $"median {figures.MedianOf(static cost => cost.WallSeconds):0.00} s; processor {figures.MedianOf(static cost => cost.ProcessorSeconds):0.00} s; "
            + $"peak {MiB(figures.PeakKiB)}");
        if (audit && options.Sabotage is null)
        {
            var counted = await size.AuditAsync(cancellationToken);
            Say($"  audit: {counted.References} references and {counted.Rows} rows in {counted.Seconds:0.0} s, "
                + $"{counted.References / counted.Seconds:0} references/s, peak {MiB(counted.PeakKiB)}");
        }
        return figures;
    }

    private static void Say(string line) => Console.WriteLine(line);

    private static string MiB(long kibibytes) => $"{kibibytes / 1024.0:0.0} MiB";

    private void Compare(HistoryShape small, SizeFigures ofSmall, HistoryShape large, SizeFigures ofLarge, bool isShort)
    {
        var violations = FindViolations(small.Chunks, ofSmall).Concat(FindViolations(large.Chunks, ofLarge)).ToList();
        var figures = new List<string>();
        Within("rows", static size => size.MeanOf(static cost => cost.Rows));
        Within("nodes", static size => size.MeanOf(static cost => cost.Nodes));
        Within("bytes", static size => size.MeanOf(static cost => cost.Bytes));
        Within("rows-delivered", static size => size.MeanOf(static cost => cost.Delivered));
        Within("store-bytes", static size => size.MeanOf(static cost => cost.StoreBytes));
        Within("peak-KiB", static size => size.PeakKiB);
        var (wall, processor) = (RatioOf(static cost => cost.WallSeconds), RatioOf(static cost => cost.ProcessorSeconds));
        figures.Add($"wall×{wall:0.00} processor×{processor:0.00}");
        if (isShort ? Math.Min(wall, processor) > ShortRatioMax : wall > WallRatioMax) violations.Add($"it takes {wall:0.00} times as long at {large.Chunks} chunks");
        Judge(violations, string.Join(' ', figures));

        double RatioOf(Func<DeletionCost, double> seconds) => ofLarge.MedianOf(seconds) / ofSmall.MedianOf(seconds);

        void Within(string what, Func<SizeFigures, double> figure)
        {
            var difference = (figure(ofLarge) / figure(ofSmall)) - 1;
            figures.Add($"{what}={figure(ofSmall):0}/{figure(ofLarge):0}({difference:+0.0%;-0.0%;0%})");
            if (Math.Abs(difference) > Tolerance) violations.Add($"{what}: {figure(ofSmall):0} at {small.Chunks} chunks, {figure(ofLarge):0} at {large.Chunks}");
        }
    }

    private static IEnumerable<string> FindViolations(long size, SizeFigures figures)
    {
        if (figures.PeakKiB > PeakLimitKiB) yield return $"the peak at {size} chunks is {figures.PeakKiB / 1024} MiB";
        foreach (var scan in figures.Scans) yield return $"a statement looks at everything: {scan}";
    }

    private void Judge(IEnumerable<string> violations, string figures)
    {
        Figures = figures;
        var found = violations.Distinct().ToList();
        if (found.Count > 0) throw new RefutedException($"{string.Join("; ", found)}; {figures}");
    }
}

using System.Globalization;
using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Proofs.Rebuild.Histories;
using VirtBackup.Proofs.Rebuild.Measuring;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Rebuild;

/// <summary>
/// An index is rebuilt at least 0.8 times as fast as its rows are plainly inserted in the order of their keys, checks at least
/// a million references a second, and says the same as the one that grew.
/// </summary>
internal sealed class RebuildProof(long? chunks) : IProof
{
    private const long UsualChunks = 2_000_000;
    private const long ShortChunks = 200_000;
    private const double RatioMin = 0.8;
    private const double ReferencesPerSecondMin = 1e6;

    // The short form lasts a second; much of it is the program's warming up.
    private const double ShortShare = 0.4;
    private const long PeakLimitKiB = 1 << 20;
    private const int Rounds = 3;

    /// <summary>Of the proof and of its script.</summary>
    public const string ProofName = "rebuild";

    public string Name => ProofName;

    public IReadOnlyList<(string Name, string What)> Sabotages => Rebuild.Sabotages.All;

    public (int Long, int Short) TrialsMax => (1, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(60);

    public string OwnOptions => chunks is { } size ? $" --chunks {size}" : "";

    public string Figures { get; private set; } = "";

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        foreach (var trial in trials)
        {
            var histories = new RandomHistories(options, trial);
            await histories.RunAsync(options.Short ? 3 : 30, isLate, cancellationToken);
            Say($"{histories.Done} written histories: {histories.Compared} rebuilt indexes equal to the grown ones, {histories.CutOff} of them after rebuilds that were cut off, "
                + $"{histories.Lines} lines of dump");
            var shape = options.Short ? HistoryShape.Short(ShortChunks) : HistoryShape.Long(chunks ?? UsualChunks);
            var seed = (ulong)ProofOptions.HashCode(options.Seed, trial, 0);
            var rounds = await MeasureAsync(new RebuildJob(shape with { HasDead = false }, seed, Rounds, options.Sabotage), options, cancellationToken);
            Judge(rounds, options.Short ? ShortShare : 1);
        }
    }

    private static async Task<List<RoundFigures>> MeasureAsync(RebuildJob job, ProofOptions options, CancellationToken cancellationToken)
    {
        options.RequireSpace(RebuildRun.NeededBytes(job.Shape));
        using var run = new RebuildRun(job, Path.Combine(options.Work, $"rebuild-{Path.GetRandomFileName()[..6]}"));
        var generation = await run.GenerateAsync(cancellationToken);
        Say($"{job.Shape.Chunks} chunks and {generation.Nodes} map nodes in {generation.Packs} packs, {job.Shape.Points} recovery points");
        var rounds = await run.RebuildAsync(cancellationToken);
        foreach (var round in rounds)
        {
            Say(string.Create(
                CultureInfo.InvariantCulture,
                $"  rebuilt: {round.Rows} rows in {round.RowSeconds:0.0} s, {round.Rows / round.RowSeconds:0} rows/s; {round.References} references in "
                + $"{round.ReferenceSeconds:0.0} s, {round.ReferencesPerSecond:0} references/s; peak {round.PeakKiB / 1024.0:0.0} MiB; "
                + $"seconds/processor seconds: {round.Phases}"));
            Say(string.Create(
                CultureInfo.InvariantCulture,
                $"  inserted plainly: the same rows in {round.PlainSeconds:0.0} s, {round.Rows / round.PlainSeconds:0} rows/s: ×{round.Ratio:0.00}, in processor time ×{round.ProcessorRatio:0.00}; "
                + $"counting the time of references too ×{round.WholeRatio:0.00}"));
        }
        return rounds;
    }

    private static void Say(string line) => Console.WriteLine(line);

    private void Judge(List<RoundFigures> rounds, double share)
    {
        // Other work on the machine only ever adds time: the fastest round of each is the least spoilt.
        double Fastest(Func<RoundFigures, double> seconds) => rounds.Min(seconds);
        var (rows, plain, all) = (Fastest(static round => round.RowSeconds), Fastest(static round => round.PlainSeconds), Fastest(static round => round.RowSeconds + round.ReferenceSeconds));
        var (ratio, references) = (plain / rows, rounds[0].References / Fastest(static round => round.ReferenceSeconds));
        // Of the first one: behind it the process still holds memory of the plain insert.
        var peak = rounds[0].PeakKiB;
        Figures = string.Create(
            CultureInfo.InvariantCulture,
            $"rows/s={rounds[0].Rows / rows:0} plain-rows/s={rounds[0].Rows / plain:0} ratio={ratio:0.00} references/s={references:0} whole-ratio={plain / all:0.00} "
            + $"peak={peak / 1024.0:0.0}MiB");
        if (share < 1)
        {
            // Other work that comes between spoils the times of so short a run, but not both of them.
            (ratio, references) = (Math.Max(ratio, rounds.Max(static round => round.ProcessorRatio)), Math.Max(references, rounds.Max(static round => round.ReferencesPerProcessorSecond)));
        }
        var violations = new List<string>();
        if (ratio < share * RatioMin) violations.Add($"the rebuild is ×{ratio:0.00} as fast as the plain insert");
        if (references < share * ReferencesPerSecondMin) violations.Add($"only {references:0} references are checked in a second");
        if (peak > PeakLimitKiB) violations.Add($"the peak is {peak / 1024} MiB");
        if (rounds.Find(static round => round.Difference is not null) is { } wrong) violations.Insert(0, $"the dumps differ: {wrong.Difference}");
        if (violations.Count > 0) throw new RefutedException($"{Figures}: {string.Join("; ", violations)}");
    }
}

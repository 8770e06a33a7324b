using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>
/// A big and a small disk of the same density are backed up, backed up again and restored, each in an installation of its
/// own that has warmed up; the peaks of agent and controller must be the same and below their limits.
/// </summary>
internal sealed class MemoryProof : IProof
{
    private const double Tolerance = 0.10;

    // 256 MiB of content are through before every pool and queue has filled once.
    private const double ShortTolerance = 0.15;
    private const long AgentLimitKiB = 256 << 10;
    private const long ControllerLimitKiB = 384 << 10;

    public string Name => "constant-memory";

    public IReadOnlyList<(string Name, string What)> Sabotages => ConstantMemory.Sabotages.All;

    public (int Long, int Short) TrialsMax => (1, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(90);

    public string Figures { get; private set; } = "";

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        var (big, small) = DiskSize.Of(options.Short);
        var needed = big.NeededBytesWith(small);
        var free = options.RequireSpace(needed);
        Console.WriteLine($"needs {needed >> 20} MiB in {options.Work}, where {free >> 20} MiB are free; all of it is given back");
        ConstantMemory.Sabotages.PlantHoarder(options);
        var folder = Path.Combine(options.Work, $"constant-memory-{Path.GetRandomFileName()[..6]}");
        foreach (var trial in trials)
        {
            Console.WriteLine($"trial {trial}: {big} against {small}");
            var warmUp = new DiskContent(options.Seed, trial, small.AsWarmUp());
            var ofBig = await new DiskRun(new DiskContent(options.Seed, trial, big), warmUp, folder, options.Sabotage, cancellationToken).RunAsync();
            var ofSmall = await new DiskRun(new DiskContent(options.Seed, trial, small), warmUp, folder, options.Sabotage, cancellationToken).RunAsync();
            Figures = Judge(ofBig, ofSmall, options.Short ? ShortTolerance : Tolerance);
            Console.WriteLine($"  {Figures}");
        }
    }

    private static string Judge(IReadOnlyList<WorkPeaks> big, IReadOnlyList<WorkPeaks> small, double tolerance)
    {
        var violations = new List<string>();
        var figures = new List<string>();
        Compare("agent", AgentLimitKiB, peaks => peaks.Agent);
        Compare("controller", ControllerLimitKiB, peaks => peaks.Controller);
        foreach (var helper in big.Concat(small).SelectMany(peaks => peaks.Helpers.Keys).Distinct().Order(StringComparer.Ordinal))
        {
            long PeakOf(IEnumerable<WorkPeaks> works) => works.Max(peaks => peaks.Helpers.GetValueOrDefault(helper));
            figures.Add($"{helper}={PeakOf(big) / 1024.0:0.0}/{PeakOf(small) / 1024.0:0.0}");
        }
        var text = $"peak MiB big/small: {string.Join(' ', figures)}";
        return violations.Count == 0 ? text : throw new RefutedException($"{string.Join("; ", violations)}; {text}");

        void Compare(string service, long limit, Func<WorkPeaks, long> peakOf)
        {
            var (ofBig, ofSmall) = (big.Max(peakOf), small.Max(peakOf));
            var difference = (double)ofBig / ofSmall - 1;
            figures.Add($"{service}={ofBig / 1024.0:0.0}/{ofSmall / 1024.0:0.0} ({difference:+0.0%;-0.0%})");
            if (Math.Abs(difference) > tolerance) violations.Add($"the {service} needs {Memory.MiB(ofBig)} for the big disk and {Memory.MiB(ofSmall)} for the small one");
            if (ofBig > limit || ofSmall > limit) violations.Add($"the {service} needs more than {Memory.MiB(limit)}");
        }
    }
}

namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>
/// A big and a small disk of the same density are backed up, backed up again and restored, each in an installation of its
/// own that has warmed up; the peaks of agent and controller must be the same and below their limits.
/// </summary>
internal sealed class MemoryProof(Options options, CancellationToken cancellationToken)
{
    private const double Tolerance = 0.10;
    private const long AgentLimitKiB = 256 << 10;
    private const long ControllerLimitKiB = 384 << 10;
    private readonly string _folder = Path.Combine(options.Work, $"constant-memory-{Path.GetRandomFileName()[..6]}");

    /// <summary>Runs all trials.</summary>
    /// <returns>Figures.</returns>
    /// <exception cref="Refuted">The claim does not hold.</exception>
    public async Task<string> RunAsync()
    {
        var (big, small) = DiskSize.Of(options.Short);
        RequireSpace(big.NeededBytesWith(small));
        Sabotages.PlantHoarder(options);
        var figures = "";
        for (var trial = options.StartTrial; trial < options.StartTrial + options.Trials; trial++)
        {
            Console.WriteLine($"trial {trial}: {big} against {small}");
            try
            {
                var ofBig = await RunAsync(big, trial);
                var ofSmall = await RunAsync(small, trial);
                figures = Judge(ofBig, ofSmall);
            }
            catch (Refuted refuted)
            {
                throw new Refuted($"trial {trial}: {refuted.Message}");
            }
            Console.WriteLine($"  {figures}");
        }
        return figures;
    }

    private Task<IReadOnlyList<WorkPeaks>> RunAsync(DiskSize size, int trial)
    {
        var warmUp = DiskSize.Of(options.Short).Small.AsWarmUp();
        return new DiskRun(new DiskContent(options.Seed, trial, size), new DiskContent(options.Seed, trial, warmUp), _folder, options.Sabotage, cancellationToken).RunAsync();
    }

    private static string Judge(IReadOnlyList<WorkPeaks> big, IReadOnlyList<WorkPeaks> small)
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
        return violations.Count == 0 ? text : throw new Refuted($"{string.Join("; ", violations)}; {text}");

        void Compare(string service, long limit, Func<WorkPeaks, long> peakOf)
        {
            var (ofBig, ofSmall) = (big.Max(peakOf), small.Max(peakOf));
            var difference = (double)ofBig / ofSmall - 1;
            figures.Add($"{service}={ofBig / 1024.0:0.0}/{ofSmall / 1024.0:0.0} ({difference:+0.0%;-0.0%})");
            if (Math.Abs(difference) > Tolerance) violations.Add($"the {service} needs {Memory.MiB(ofBig)} for the big disk and {Memory.MiB(ofSmall)} for the small one");
            if (ofBig > limit || ofSmall > limit) violations.Add($"the {service} needs more than {Memory.MiB(limit)}");
        }
    }

    private void RequireSpace(long needed)
    {
        if (!Directory.Exists(options.Work)) throw new Refuted($"the folder {options.Work} does not exist; choose another with --work");
        var free = new DriveInfo(options.Work).AvailableFreeSpace;
        Console.WriteLine($"needs {needed >> 20} MiB in {options.Work}, where {free >> 20} MiB are free; all of it is given back");
        if (free < needed)
        {
            throw new Refuted($"{needed >> 20} MiB are needed in {options.Work}, only {free >> 20} MiB are free: choose another folder with --work");
        }
    }
}

using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ScrubSpeed;

/// <summary>
/// A scrub is nearly as fast as hashing alone, and a restore from a repository that has aged reads much with each request.
/// The short form's repository is so small that an incremental run leaves less than one such read: there it is judged how
/// many requests there are more than the fewest that read the same.
/// </summary>
internal sealed class ScrubSpeedProof : IProof
{
    public const string HashAgain = "hash-again";
    public const string SmallReads = "small-reads";

    private const long RequestBytesMin = 4 << 20;
    private const long ReadBytes = 8 << 20;
    private const double FewestMax = 1.5;

    private string _figures = "";

    public string Name => "scrub-speed";

    public IReadOnlyList<(string Name, string What)> Sabotages { get; } =
    [
        (HashAgain, "the scrub hashes everything four times"),
        (SmallReads, "a restore reads at most 256 KiB with one request"),
    ];

    public (int Long, int Short) TrialsMax => (1, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(1);

    public string Figures => _figures;

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        foreach (var trial in trials)
        {
            var work = Path.Combine(options.Work, $"virtbackup-scrub-speed-{Environment.ProcessId}-{trial}");
            var folder = Path.Combine(work, "repository");
            try
            {
                SingleThread.Run(thread => AgeAsync(thread, options, trial, folder, cancellationToken));
                await RaceAsync(options, folder, cancellationToken);
            }
            finally
            {
                Directory.Delete(work, recursive: true);
            }
        }
    }

    private async Task AgeAsync(SingleThread thread, ProofOptions options, int trial, string folder, CancellationToken cancellationToken)
    {
        var diskBytes = options.Short ? 64 << 20 : 512 << 20;
        await using var aged = new AgedRepository(thread, options, trial, folder, diskBytes);
        await aged.AgeAsync(cancellationToken);
        var reads = await aged.RestoreAsync();
        var (requests, bytes) = (reads.Values.Sum(read => read.Requests), reads.Values.Sum(read => read.Bytes));
        var fewest = reads.Values.Sum(read => (read.Bytes + ReadBytes - 1) / ReadBytes);
        var figures = FormattableString.Invariant(
            $"restoring {diskBytes >> 20} MiB after {AgedRepository.Incrementals} incremental runs took {requests} requests (fewest {fewest}) of {bytes / 1048576.0 / requests:0.00} MiB on average, {(double)bytes / diskBytes:0.00} bytes read per byte");
        Console.WriteLine($"{figures}; judged: {(options.Short ? $"at most {FewestMax} times the fewest requests" : $"at least {RequestBytesMin >> 20} MiB per request")}");
        _figures = figures;
        if (options.Short ? requests > FewestMax * fewest : bytes < RequestBytesMin * requests)
        {
            throw new RefutedException(figures);
        }
    }

    private async Task RaceAsync(ProofOptions options, string folder, CancellationToken cancellationToken)
    {
        var (times, rounds, min) = options.Short ? (2, 3, 0.5) : (1, 5, 0.8);
        var race = new ScrubRace(folder, times, options.Sabotage);
        var speeds = await race.RunAsync(rounds, cancellationToken);
        foreach (var (scrub, openssl) in speeds)
        {
            Console.WriteLine(FormattableString.Invariant(
                $"scrub {scrub.PerProcessor / 1e6:0} MB, openssl {openssl.PerProcessor / 1e6:0} MB per second of one processor; {scrub.PerSecond / 1e6:0} and {openssl.PerSecond / 1e6:0} MB per second"));
        }
        var (ratio, wall) = (Median(speeds.Select(turn => turn.Scrub.PerProcessor / turn.Openssl.PerProcessor)), Median(speeds.Select(turn => turn.Scrub.PerSecond / turn.Openssl.PerSecond)));
        var figures = FormattableString.Invariant($"scrub of {race.PackBytes >> 20} MiB at {ratio:0.00} of openssl per second of the same processor ({wall:0.00} by the wall clock)");
        Console.WriteLine($"{figures}, median of {rounds}; judged: at least {min.ToString(System.Globalization.CultureInfo.InvariantCulture)} by the processor's time");
        if (ratio < min)
        {
            throw new RefutedException(figures);
        }
        _figures = $"{figures}; {_figures}";
    }

    private static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        return sorted[sorted.Length / 2];
    }
}

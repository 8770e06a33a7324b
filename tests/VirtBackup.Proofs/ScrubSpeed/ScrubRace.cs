using System.Globalization;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ScrubSpeed;

/// <summary>How fast something has read, bytes per second.</summary>
/// <param name="PerProcessor">Per second of the processor: what others do on the machine does not count.</param>
/// <param name="PerSecond">Per second of the wall clock.</param>
internal readonly record struct ReadingSpeed(double PerProcessor, double PerSecond);

/// <summary>Lets the scrub and <c>openssl dgst -sha256</c> read the same packs, in turns, bound to the same processor.</summary>
internal sealed class ScrubRace(string folder, int times, string? sabotage)
{
    private static readonly TimeSpan TimeMax = TimeSpan.FromMinutes(10);

    private readonly string _processor = FindProcessor();
    private readonly List<string> _packs = [.. Directory.EnumerateFiles(Path.Combine(folder, "packs"), "*.vbp", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];

    public long PackBytes => _packs.Sum(pack => new FileInfo(pack).Length);

    /// <param name="rounds">Turns of each; one before them fills the page cache.</param>
    /// <param name="cancellationToken">Ends the race.</param>
    /// <returns>The speeds of each turn.</returns>
    public async Task<List<(ReadingSpeed Scrub, ReadingSpeed Openssl)>> RunAsync(int rounds, CancellationToken cancellationToken)
    {
        var speeds = new List<(ReadingSpeed Scrub, ReadingSpeed Openssl)>();
        for (var i = 0; i <= rounds; i++)
        {
            speeds.Add((await ScrubAsync(cancellationToken), await HashAsync(cancellationToken)));
        }
        return speeds[1..];
    }

    private async Task<ReadingSpeed> ScrubAsync(CancellationToken cancellationToken)
    {
        string[] arguments = ["-c", _processor, Environment.ProcessPath!, "scrub-speed", ScrubWorker.Option, folder, times.ToString(CultureInfo.InvariantCulture), sabotage ?? ""];
        var result = await Proc.RunAsync("taskset", arguments, TimeMax, cancellationToken: cancellationToken);
        if (result.ExitCode != 0 || Numbers(result.Stdout) is not [var seconds, var processor, var bytes])
        {
            throw new RefutedException($"The scrub failed: {result.Stderr}{result.Stdout}");
        }
        return (long)bytes == times * PackBytes
            ? new ReadingSpeed(bytes / processor, bytes / seconds)
            : throw new RefutedException($"The scrub read {bytes} bytes of packs, and {times} times {PackBytes} are stored.");
    }

    private async Task<ReadingSpeed> HashAsync(CancellationToken cancellationToken)
    {
        const string Script = "TIMEFORMAT='%R %U %S'; LC_ALL=C; time openssl dgst -sha256 \"$@\" > /dev/null";
        List<string> arguments = ["-c", _processor, "bash", "-c", Script, "bash"];
        for (var i = 0; i < times; i++)
        {
            arguments.AddRange(_packs);
        }
        var result = await Proc.RunAsync("taskset", arguments, TimeMax, cancellationToken: cancellationToken);
        if (result.ExitCode != 0 || Numbers(result.Stderr) is not [var seconds, var user, var system])
        {
            throw new RefutedException($"'openssl dgst -sha256' failed: {result.Stderr}{result.Stdout}");
        }
        return new ReadingSpeed(times * PackBytes / (user + system), times * PackBytes / seconds);
    }

    private static double[] Numbers(string text) =>
        [.. text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Select(word => double.TryParse(word, CultureInfo.InvariantCulture, out var number) ? number : double.NaN)];

    /// <summary>The last processor that this process may use.</summary>
    private static string FindProcessor() =>
        File.ReadLines("/proc/self/status").First(line => line.StartsWith("Cpus_allowed_list:", StringComparison.Ordinal)).Split([':', ',', '-', '\t', ' ']).Last();
}

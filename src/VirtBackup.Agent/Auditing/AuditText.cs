using System.Globalization;
using VirtBackup.Format.Manifests;

namespace VirtBackup.Agent.Auditing;

/// <summary>An audit for people, in the job's log.</summary>
internal static class AuditText
{
    public static IEnumerable<string> Describe(AuditStatistics audit)
    {
        if (audit.Omitted is { } omitted)
        {
            yield return $"Audit of change tracking: {omitted}.";
        }
        if (audit.RotationBytes == 0)
        {
            yield break;
        }
        var rotation = audit.RunsLeft == 0
            ? $"with this run every byte was read again within {audit.RunsTaken} runs"
            : $"{Percent((double)audit.RotatedBytes / audit.RotationBytes)} of the disks in {audit.RunsTaken} {Plural(audit.RunsTaken, "run")}, all of them after {audit.RunsLeft} more"
                + (audit.IsCut ? " at this pace: the time limit left the rest of what is due for the next run" : "");
        yield return $"Audit of change tracking: {Mebibytes(audit.AuditedBytes)} called unchanged were read again, {(audit.Misses == 0 ? "all as before" : $"{audit.Misses} {Plural(audit.Misses, "chunk")} had changed")}; {rotation}.";
        yield return string.Create(CultureInfo.InvariantCulture,
            $"This run's audit finds 1 lost block of 64 KiB with {Percent(audit.DetectionOf(1))}, 10 with {Percent(audit.DetectionOf(10))}, 100 with {Percent(audit.DetectionOf(100))}; a whole rotation finds each.");
    }

    public static string Percent(double share) =>
        (share * 100).ToString(share is >= 0.9995 and < 1 ? "0.0000" : share is >= 0.1 or 0 ? "0.0" : "0.000", CultureInfo.InvariantCulture) + " %";

    private static string Mebibytes(long bytes) => (bytes / (double)(1 << 20)).ToString("0.0", CultureInfo.InvariantCulture) + " MiB";

    private static string Plural(long count, string word) => count == 1 ? word : word + "s";
}

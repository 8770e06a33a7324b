using VirtBackup.Core;
using VirtBackup.Format;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>What the lines of a dump of an index say.</summary>
internal static class IndexLines
{
    /// <summary>Names of the packs that are in use.</summary>
    public static HashSet<string> Packs(IReadOnlyList<string> dump) =>
        [.. dump.Where(static line => line.StartsWith("pack ", StringComparison.Ordinal)).Select(static line => ObjectKeys.Pack(Id32.Parse(line.Split(' ')[1])))];

    /// <summary>Where objects lie.</summary>
    public static HashSet<(Id32 Id, string PackKey)> Located(IReadOnlyList<string> dump) =>
        [.. dump.Where(static line => line.StartsWith("object ", StringComparison.Ordinal)).Select(static line => line.Split(' '))
            .Where(static parts => parts[4].StartsWith("pack=", StringComparison.Ordinal)).Select(static parts => (Id32.Parse(parts[2]), ObjectKeys.Pack(Id32.Parse(parts[4]["pack=".Length..]))))];
}

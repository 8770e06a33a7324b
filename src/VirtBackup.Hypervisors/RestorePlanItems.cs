namespace VirtBackup.Hypervisors;

/// <summary>What every restore plan has to speak of. Nothing is hidden: what a driver does not compare is said to be unknown.</summary>
public static class RestorePlanItems
{
    private static readonly string[] Items =
        ["cpu", "machine type", "firmware", "secure boot", "tpm", "disk bus", "sector size", "disk format", "storage", "space", "network", "name"];

    /// <summary>The findings, and one more about the items that none of them is about.</summary>
    public static IReadOnlyList<RestoreFinding> Complete(IReadOnlyList<RestoreFinding> findings)
    {
        ArgumentNullException.ThrowIfNull(findings);
        var silent = Items.Where(item => !findings.Any(finding => IsAbout(finding, item))).ToList();
        return silent.Count == 0
            ? findings
            : [.. findings, new RestoreFinding("other items", FindingSeverity.Unknown, $"Not compared, because the recovery point or the platform does not tell: {string.Join(", ", silent)}.")];
    }

    // Who keeps the identity is told about both under that name.
    private static bool IsAbout(RestoreFinding finding, string item) =>
        string.Equals(finding.Item, item, StringComparison.OrdinalIgnoreCase) || (item == "name" && finding.Item == "identity");
}

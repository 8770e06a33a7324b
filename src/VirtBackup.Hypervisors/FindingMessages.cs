namespace VirtBackup.Hypervisors;

/// <summary>What findings say to people.</summary>
internal static class FindingMessages
{
    /// <summary>Why it cannot be; empty: nothing stands in the way.</summary>
    public static string OfObstacles(IEnumerable<RestoreFinding> findings) =>
        string.Join(" ", findings.Where(static finding => finding.Severity == FindingSeverity.Blocks).Select(static finding => finding.Message));
}

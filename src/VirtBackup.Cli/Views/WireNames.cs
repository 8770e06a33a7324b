using Google.Protobuf.WellKnownTypes;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Views;

/// <summary>How values of the wire are spelled in the program's output.</summary>
internal static class WireNames
{
    public static string Of(JobState state) => state switch
    {
        JobState.Queued => "queued",
        JobState.Running => "running",
        JobState.Succeeded => "succeeded",
        JobState.Failed => "failed",
        JobState.Cancelled => "cancelled",
        _ => "unknown",
    };

    public static string Of(Consistency consistency) => consistency switch
    {
        Consistency.Crash => "crash",
        Consistency.Filesystem => "filesystem",
        Consistency.Application => "application",
        _ => "unknown",
    };

    public static string Of(RestoreFinding.Types.Severity severity) => severity switch
    {
        RestoreFinding.Types.Severity.Fits => "fits",
        RestoreFinding.Types.Severity.Adapts => "adapts",
        RestoreFinding.Types.Severity.Blocks => "blocks",
        _ => "unknown",
    };

    /// <summary><c>ERROR_REASON_DEVICE_FULL</c> is <c>device_full</c>.</summary>
    public static string Of(ErrorReason reason) => Output.SnakeCase.Of(reason.ToString());

    public static DateTimeOffset? Of(Timestamp? time) => time?.ToDateTimeOffset();

    public static string? TextOrNull(string text) => text.Length == 0 ? null : text;
}

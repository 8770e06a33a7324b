using Google.Protobuf.WellKnownTypes;
using VirtBackup.Core;

namespace VirtBackup.Controller;

/// <summary>Checks and conversions of the small values that cross the wire.</summary>
internal static class WireText
{
    public const int RequestIdCharsMax = 128;

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: not 32 lower-case hexadecimal digits.</exception>
    public static Id16 ToId(string text, string what) =>
        Id16.TryParse(text, out var id) && id.ToString() == text
            ? id
            : throw new FaultException(FaultReason.InvalidArgument, $"The {what} is not 32 lower-case hexadecimal digits.");

    /// <summary>Like <see cref="ToId"/>; an empty text is the empty id.</summary>
    public static Id16 ToIdOrEmpty(string text, string what) => text.Length == 0 ? Id16.Empty : ToId(text, what);

    public static string ToText(Id16 id) => id.IsEmpty ? "" : id.ToString();

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: longer than the bound.</exception>
    public static string Bounded(string text, int charsMax, string what) =>
        text.Length <= charsMax ? text : throw new FaultException(FaultReason.InvalidArgument, $"The {what} has {text.Length} characters; at most {charsMax} are allowed.");

    /// <summary>The caller's name for its request, which has at most <see cref="RequestIdCharsMax"/> characters; null: it gave none.</summary>
    public static string? ToRequestId(string text) => text.Length == 0 ? null : Bounded(text, RequestIdCharsMax, "request id");

    public static string Shortened(string text, int charsMax) => text.Length <= charsMax ? text : text[..charsMax];

    public static Timestamp ToTimestamp(long milliseconds) => Timestamp.FromDateTimeOffset(DateTimeOffset.FromUnixTimeMilliseconds(milliseconds));

    public static Timestamp? ToTimestamp(long? milliseconds) => milliseconds is { } value ? ToTimestamp(value) : null;

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: it is missing, or lies outside of 1970 to 9999.</exception>
    public static long ToMs(Timestamp? timestamp, string what) =>
        timestamp is { Seconds: >= 0 and <= 253_402_300_799, Nanos: >= 0 and < 1_000_000_000 }
            ? (timestamp.Seconds * 1000) + (timestamp.Nanos / 1_000_000)
            : throw new FaultException(FaultReason.InvalidArgument, $"The {what} is missing or no time between 1970 and 9999.");

    public static long NowMs(this TimeProvider time) => time.GetUtcNow().ToUnixTimeMilliseconds();

    /// <summary>The range of ids that start with these hexadecimal digits; null: not 1 to 32 of them.</summary>
    public static (Id16 First, Id16 Last)? ToRange(string digits)
    {
        if (digits.Length is 0 or > 2 * Id16.Size || digits.Any(static c => !char.IsAsciiHexDigitLower(c)))
        {
            return null;
        }
        return (Id16.Parse(digits.PadRight(2 * Id16.Size, '0')), Id16.Parse(digits.PadRight(2 * Id16.Size, 'f')));
    }
}

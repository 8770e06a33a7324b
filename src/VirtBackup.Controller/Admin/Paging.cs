using System.Buffers.Text;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Controller.Admin;

/// <summary>Page sizes and page tokens. A token is opaque to clients: the last row's sort key, in base64url.</summary>
internal static class Paging
{
    private const int DefaultSize = 100;
    private const int SizeMax = 1000;
    private const int TokenCharsMax = 1024;

    public static int SizeOf(uint asked) => asked == 0 ? DefaultSize : (int)Math.Min(asked, SizeMax);

    public static string ToToken(params string[] key) => Base64Url.EncodeToString(Encoding.UTF8.GetBytes(string.Join('\n', key)));

    /// <summary>The parts of the token; null for the first page.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>.</exception>
    public static string[]? FromToken(string token, int parts)
    {
        if (token.Length == 0)
        {
            return null;
        }
        try
        {
            if (token.Length <= TokenCharsMax && Encoding.UTF8.GetString(Base64Url.DecodeFromChars(token)).Split('\n') is { } key && key.Length == parts)
            {
                return key;
            }
        }
        catch (FormatException)
        {
            // Told below.
        }
        throw Invalid();
    }

    public static FaultException Invalid() => new(FaultReason.InvalidArgument, "The page token is not one that this list gave: start from the first page.");
}

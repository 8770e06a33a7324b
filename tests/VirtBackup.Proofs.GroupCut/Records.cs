using System.Globalization;
using System.Text;

namespace VirtBackup.Proofs.GroupCut;

/// <summary>
/// The messages that a disk holds, found wherever they lie on it: what the guest had on its disk counts, whatever its file system
/// thinks of it. A message has 16 bytes, and lies at a multiple of that.
/// </summary>
/// <param name="Sent">Numbers of its own messages.</param>
/// <param name="Received">Numbers of the other's.</param>
internal sealed record Records(IReadOnlySet<int> Sent, IReadOnlySet<int> Received)
{
    public const int Bytes = 16;
    private const int DigitsMax = 9;
    private const int BufferBytes = 1 << 20;

    /// <summary>As the guests' shell writes it, but for the number.</summary>
    public static string Format(char guest) => $"<{guest}:%09d..>\\n";

    public static byte[] Of(char guest, int number) => Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"<{guest}:{number:000000000}..>\n"));

    /// <param name="image">A raw image.</param>
    public static async Task<Records> ReadAsync(string image, char own, char other, CancellationToken cancellationToken)
    {
        var (sent, received) = (new HashSet<int>(), new HashSet<int>());
        await using var file = File.OpenRead(image);
        var buffer = new byte[BufferBytes];
        int length;
        while ((length = await file.ReadAtLeastAsync(buffer, BufferBytes, throwOnEndOfStream: false, cancellationToken)) > 0)
        {
            if (!buffer.AsSpan(0, length).ContainsAnyExcept((byte)0)) continue;
            for (var at = 0; at + Bytes <= length; at += Bytes)
            {
                if (Read(buffer.AsSpan(at, Bytes)) is not var (guest, number)) continue;
                if (guest == own) sent.Add(number);
                if (guest == other) received.Add(number);
            }
        }
        return new Records(sent, received);
    }

    /// <summary>Messages here that the other has not sent.</summary>
    public long CountUncaused(Records other) => Received.Count(number => !other.Sent.Contains(number));

    private static (char Guest, int Number)? Read(ReadOnlySpan<byte> bytes) =>
        bytes[0] == '<' && bytes[2] == ':' && bytes[15] == '\n' && bytes[14] == '>'
        && int.TryParse(bytes.Slice(3, DigitsMax), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? ((char)bytes[1], number) : null;
}

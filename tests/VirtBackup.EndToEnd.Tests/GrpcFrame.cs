using System.Buffers.Binary;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Messages as gRPC puts them on HTTP/2: a flag, four bytes of length, the message.</summary>
internal static class GrpcFrame
{
    private const int HeadBytes = 5;

    /// <summary>A message of exactly this length, 16,388 to 2,097,155 bytes: one length-delimited field, filled with zeros.</summary>
    /// <param name="field">Number of the field, 1 to 15.</param>
    public static byte[] Of(int field, int length)
    {
        var frame = new byte[HeadBytes + length];
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), length);
        // The field's tag takes one byte, its length three.
        var content = length - 4;
        frame[HeadBytes] = (byte)((field << 3) | 2);
        frame[HeadBytes + 1] = (byte)(content | 0x80);
        frame[HeadBytes + 2] = (byte)((content >> 7) | 0x80);
        frame[HeadBytes + 3] = (byte)(content >> 14);
        return frame;
    }
}

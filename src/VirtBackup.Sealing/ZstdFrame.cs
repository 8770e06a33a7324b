using System.Buffers.Binary;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>
/// Looks at a zstd frame's outline (RFC 8878 section 3.1.1) before it is decompressed: exactly one frame, no dictionary,
/// the content size stated and as expected, the window no larger than the largest chunk, nothing behind the last block.
/// </summary>
internal static class ZstdFrame
{
    private const uint Magic = 0xFD2FB528;
    private const int BlockBytesMax = 128 << 10;

    public static bool IsExactly(ReadOnlySpan<byte> frame, int contentLength)
    {
        if (frame.Length < 5 || BinaryPrimitives.ReadUInt32LittleEndian(frame) != Magic)
        {
            return false;
        }
        var descriptor = frame[4];
        var singleSegment = (descriptor & 0x20) != 0;
        var sizeFlag = descriptor >> 6;
        // Unused and reserved bits zero, no dictionary id.
        if ((descriptor & 0x1b) != 0)
        {
            return false;
        }
        var position = 5;
        if (!singleSegment && (frame.Length == position || WindowBytes(frame[position++]) > Limits.ChunkBytesMax))
        {
            return false;
        }
        var sizeBytes = sizeFlag == 0 ? (singleSegment ? 1 : 0) : 1 << sizeFlag;
        if (sizeBytes == 0 || frame.Length < position + sizeBytes || ContentSize(frame.Slice(position, sizeBytes)) != (ulong)contentLength)
        {
            return false;
        }
        var checksumBytes = (descriptor & 0x04) != 0 ? 4 : 0;
        return SkipBlocks(frame, position + sizeBytes) == frame.Length - checksumBytes;
    }

    private static int SkipBlocks(ReadOnlySpan<byte> frame, int position)
    {
        while (frame.Length - position >= 3)
        {
            var head = frame[position] | (frame[position + 1] << 8) | (frame[position + 2] << 16);
            var (last, type, size) = ((head & 1) != 0, (head >> 1) & 3, head >> 3);
            position += 3;
            var stored = type == 1 ? 1 : size;
            if (type == 3 || size > BlockBytesMax || stored > frame.Length - position)
            {
                return -1;
            }
            position += stored;
            if (last)
            {
                return position;
            }
        }
        return -1;
    }

    private static ulong WindowBytes(byte descriptor)
    {
        var basis = 1UL << (10 + (descriptor >> 3));
        return basis + (basis / 8 * (ulong)(descriptor & 7));
    }

    private static ulong ContentSize(ReadOnlySpan<byte> field) => field.Length switch
    {
        1 => field[0],
        2 => BinaryPrimitives.ReadUInt16LittleEndian(field) + 256UL,
        4 => BinaryPrimitives.ReadUInt32LittleEndian(field),
        _ => BinaryPrimitives.ReadUInt64LittleEndian(field),
    };
}

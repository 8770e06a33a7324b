using System.Buffers;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;
using VirtBackup.CloudStores.Spool;

namespace VirtBackup.CloudStores.Copies;

/// <summary>
/// A copy of one object: its bytes, the SHA-256 of each block of 64 KiB of them, their length, and the SHA-256 of the key, the
/// length and those hashes. So every block can be proven alone when it is read.
/// </summary>
internal sealed class CopyFile : IDisposable
{
    private const int BlockBytes = 64 << 10;
    private const int HashBytes = SHA256.HashSizeInBytes;
    private const int TrailerBytes = sizeof(long) + HashBytes;

    // Of the largest object: more is no copy.
    private const int TableBytesMax = 1 << 20;

    private readonly SafeFileHandle _file;
    private readonly long _length;
    private readonly byte[] _hashes;

    private CopyFile(SafeFileHandle file, long length, byte[] hashes) => (_file, _length, _hashes) = (file, length, hashes);

    /// <summary>What stands behind so many bytes.</summary>
    public static long TableLength(long length) => (BlocksOf(length) * HashBytes) + TrailerBytes;

    /// <summary>Null: the file is not a whole copy of that object.</summary>
    public static CopyFile? Open(string path, string key)
    {
        var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        var isOpen = false;
        try
        {
            var end = RandomAccess.GetLength(file);
            Span<byte> trailer = stackalloc byte[TrailerBytes];
            if (end < TrailerBytes || RandomAccess.Read(file, trailer, end - TrailerBytes) != TrailerBytes)
            {
                return null;
            }
            var length = BinaryPrimitives.ReadInt64LittleEndian(trailer);
            if (length < 0 || length > end || length + TableLength(length) != end || TableLength(length) > TableBytesMax)
            {
                return null;
            }
            var hashes = new byte[TableLength(length) - TrailerBytes];
            if (RandomAccess.Read(file, hashes, length) != hashes.Length || !Seal(key, length, hashes).AsSpan().SequenceEqual(trailer[sizeof(long)..]))
            {
                return null;
            }
            isOpen = true;
            return new CopyFile(file, length, hashes);
        }
        finally
        {
            if (!isOpen)
            {
                file.Dispose();
            }
        }
    }

    /// <summary>Adds to an object in the spool what makes it a copy.</summary>
    public static async ValueTask FinishAsync(SpooledContent content, string key, CancellationToken cancellationToken)
    {
        var length = content.Length;
        var table = new byte[TableLength(length)];
        var hashes = table.AsMemory(0, table.Length - TrailerBytes);
        var block = ArrayPool<byte>.Shared.Rent(BlockBytes);
        try
        {
            await using var bytes = content.OpenRange(0, length);
            for (var i = 0; i < BlocksOf(length); i++)
            {
                var part = block.AsMemory(0, LengthOf(i, length));
                await bytes.ReadExactlyAsync(part, cancellationToken);
                SHA256.HashData(part.Span, hashes.Span[(i * HashBytes)..]);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(block);
        }
        BinaryPrimitives.WriteInt64LittleEndian(table.AsSpan(hashes.Length), length);
        Seal(key, length, hashes.Span).CopyTo(table.AsSpan(hashes.Length + sizeof(long)));
        await content.WriteAsync(table, cancellationToken);
    }

    /// <summary>Reads up to so many bytes; null: a block is not what was stored.</summary>
    public async ValueTask<int?> ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        var wanted = (int)Math.Min(destination.Length, Math.Max(0, _length - offset));
        var block = ArrayPool<byte>.Shared.Rent(BlockBytes);
        try
        {
            for (var filled = 0; filled < wanted;)
            {
                var i = (int)((offset + filled) / BlockBytes);
                var start = (long)i * BlockBytes;
                var part = block.AsMemory(0, LengthOf(i, _length));
                if (await RandomAccess.ReadAsync(_file, part, start, cancellationToken) != part.Length
                    || !SHA256.HashData(part.Span).AsSpan().SequenceEqual(_hashes.AsSpan(i * HashBytes, HashBytes)))
                {
                    return null;
                }
                var from = (int)(offset + filled - start);
                var count = Math.Min(part.Length - from, wanted - filled);
                part.Slice(from, count).CopyTo(destination[filled..]);
                filled += count;
            }
            return wanted;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(block);
        }
    }

    public void Dispose() => _file.Dispose();

    private static long BlocksOf(long length) => (length + BlockBytes - 1) / BlockBytes;

    private static int LengthOf(int block, long length) => (int)Math.Min(BlockBytes, length - ((long)block * BlockBytes));

    private static byte[] Seal(string key, long length, ReadOnlySpan<byte> hashes)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> number = stackalloc byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(number, length);
        hash.AppendData(Encoding.UTF8.GetBytes(key));
        hash.AppendData(number);
        hash.AppendData(hashes);
        return hash.GetHashAndReset();
    }
}

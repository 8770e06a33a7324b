using System.Buffers.Binary;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;

namespace VirtBackup.Format.Tests;

/// <summary>Makes checksums of damaged bytes right again, in place, so that damage reaches the rules behind them. Bytes that have no room for one stay.</summary>
internal static class ChecksumRepair
{
    /// <summary>The hash at the end of manifests, tombstones and key objects.</summary>
    public static byte[] OfObject(byte[] bytes)
    {
        if (bytes.Length >= Id32.Size)
        {
            SHA256.HashData(bytes.AsSpan()[..^Id32.Size], bytes.AsSpan(bytes.Length - Id32.Size));
        }
        return bytes;
    }

    public static byte[] OfRecord(byte[] bytes)
    {
        if (bytes.Length >= RecordHeader.Size)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(72), Crc32C.Compute(bytes.AsSpan(0, 72)));
        }
        return bytes;
    }

    /// <summary>Of a footer with its trailer.</summary>
    public static byte[] OfPack(byte[] bytes)
    {
        if (bytes.Length > PackTrailer.Size)
        {
            SHA256.HashData(bytes.AsSpan()[..^64], bytes.AsSpan(bytes.Length - 64 + 16));
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(bytes.Length - 12), Crc32C.Compute(bytes.AsSpan(bytes.Length - 64, 52)));
        }
        return bytes;
    }
}

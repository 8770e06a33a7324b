using System.Buffers;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Packs;

namespace VirtBackup.Repository;

/// <summary>Reads packs of a store.</summary>
internal static class PackReader
{
    /// <summary>Bytes of one read of a sequential pass.</summary>
    public const int ReadBytes = 1 << 20;

    /// <summary>Footer and trailer, in one read for most packs.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>, <see cref="FaultReason.Malformed"/>, <see cref="FaultReason.Corrupt"/>.</exception>
    public static async ValueTask<PackFooter> ReadFooterAsync(IObjectStore store, ObjectInfo pack, CancellationToken cancellationToken)
    {
        if (pack.Length is < PackTrailer.Size or > Limits.PackBytesMax)
        {
            throw FaultException.Malformed($"It has {pack.Length} bytes, which no pack has.");
        }
        var guess = (int)Math.Min(pack.Length, PackFooter.SuffixGuessBytes);
        var suffix = await ReadSuffixAsync(store, pack, guess, cancellationToken);
        var needed = PackTrailer.Parse(suffix, pack.Length).SuffixLength;
        if (needed > guess)
        {
            suffix = await ReadSuffixAsync(store, pack, needed, cancellationToken);
        }
        return PackFooter.Parse(suffix, pack.Length);
    }

    /// <summary>SHA-256 of an object's first <paramref name="length"/> bytes; of what is there when it is shorter.</summary>
    public static async ValueTask<Id32> HashAsync(IObjectStore store, string key, long length, CancellationToken cancellationToken)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = ArrayPool<byte>.Shared.Rent(ReadBytes);
        try
        {
            for (long offset = 0; offset < length;)
            {
                var count = await store.ReadAsync(key, offset, buffer.AsMemory(0, (int)Math.Min(ReadBytes, length - offset)), cancellationToken);
                if (count == 0)
                {
                    break;
                }
                hash.AppendData(buffer.AsSpan(0, count));
                offset += count;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
        return Id32.Read(hash.GetHashAndReset());
    }

    private static async ValueTask<byte[]> ReadSuffixAsync(IObjectStore store, ObjectInfo pack, int length, CancellationToken cancellationToken)
    {
        var suffix = new byte[length];
        await store.ReadExactlyAsync(pack.Key, pack.Length - length, suffix, cancellationToken);
        return suffix;
    }
}

using System.Buffers;

namespace VirtBackup.Core;

/// <summary>Whole-object reads and writes for small objects.</summary>
public static class ObjectStoreExtensions
{
    private const int FirstReadBytes = 64 << 10;

    /// <summary>Stores <paramref name="content"/> durably if the key is free; false when it exists already.</summary>
    public static async ValueTask<bool> PutAsync(this IObjectStore store, string key, ReadOnlyMemory<byte> content, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(store);
        await using var writer = await store.CreateAsync(cancellationToken);
        await writer.WriteAsync(content, cancellationToken);
        return await writer.PublishAsync(key, cancellationToken);
    }

    /// <summary>Reads a whole object of at most <paramref name="bytesMax"/> bytes.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.NotFound"/>; <see cref="FaultReason.Malformed"/> when it is longer than the bound.
    /// </exception>
    public static async ValueTask<byte[]> ReadAllAsync(this IObjectStore store, string key, int bytesMax, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(store);
        // Most are small and take one request: its length is not asked for before.
        var first = ArrayPool<byte>.Shared.Rent(FirstReadBytes);
        try
        {
            var count = await store.ReadAsync(key, 0, first.AsMemory(0, FirstReadBytes), cancellationToken);
            if (count < FirstReadBytes)
            {
                return count <= bytesMax ? first[..count] : throw TooLong(key, count, bytesMax);
            }
            var info = await store.FindAsync(key, cancellationToken)
                ?? throw new FaultException(FaultReason.NotFound, $"The object {key} is not in the repository.");
            if (info.Length > bytesMax)
            {
                throw TooLong(key, info.Length, bytesMax);
            }
            var bytes = new byte[info.Length];
            first.AsSpan(0, Math.Min(count, bytes.Length)).CopyTo(bytes);
            await store.ReadExactlyAsync(key, count, bytes.AsMemory(Math.Min(count, bytes.Length)), cancellationToken);
            return bytes;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(first);
        }
    }

    /// <summary>Fills <paramref name="destination"/> from <paramref name="offset"/>.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: the object ends before that.</exception>
    public static async ValueTask ReadExactlyAsync(this IObjectStore store, string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(store);
        while (destination.Length > 0)
        {
            var count = await store.ReadAsync(key, offset, destination, cancellationToken);
            if (count == 0)
            {
                throw FaultException.Corrupt($"The object {key} ends at byte {offset}, {destination.Length} bytes early.");
            }
            offset += count;
            destination = destination[count..];
        }
    }

    private static FaultException TooLong(string key, long length, int bytesMax) =>
        FaultException.Malformed($"The object {key} has {length} bytes; at most {bytesMax} are allowed.");
}

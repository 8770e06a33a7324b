using VirtBackup.Core;

namespace VirtBackup.Repository;

/// <summary>Puts that may be repeated after a crash.</summary>
internal static class RepeatablePut
{
    /// <summary>Stores the object, or finds the very same bytes there; false when the key holds something else.</summary>
    public static async ValueTask<bool> PutSameAsync(this IObjectStore store, string key, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        if (await store.PutAsync(key, bytes, cancellationToken))
        {
            return true;
        }
        if (await store.FindAsync(key, cancellationToken) is not { } existing || existing.Length != bytes.Length)
        {
            return false;
        }
        var stored = await store.ReadAllAsync(key, bytes.Length, cancellationToken);
        return stored.AsSpan().SequenceEqual(bytes.Span);
    }
}

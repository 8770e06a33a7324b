using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>A record that was proven sound, and the hash of the bytes that were proven.</summary>
internal readonly record struct ProvenRecord(IndexedRecord Record, Id32 Hash);

/// <summary>
/// Reads records of a pack that is suspected. Whatever is decided about a record, is decided about bytes that were read twice
/// alike: a bus or controller that errs once must neither lose a sound record nor copy a damaged one.
/// </summary>
internal sealed class PackRecordReader(IObjectStore store, PackRow pack)
{
    private readonly string _key = ObjectKeys.Pack(pack.Hash);

    public static Id32 HashOf(ReadOnlySpan<byte> bytes)
    {
        Span<byte> digest = stackalloc byte[Id32.Size];
        SHA256.HashData(bytes, digest);
        return Id32.Read(digest);
    }

    /// <summary>Fills <paramref name="destination"/> with the record; false: the object ends before.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unavailable"/>; <see cref="FaultReason.Denied"/>.</exception>
    public async ValueTask<bool> TryReadAsync(IndexedRecord record, Memory<byte> destination, CancellationToken cancellationToken)
    {
        try
        {
            await store.ReadExactlyAsync(_key, record.Position, destination, cancellationToken);
            return true;
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.Corrupt)
        {
            return false;
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
        {
            throw new FaultException(FaultReason.Unavailable, $"The pack {_key} was there a moment ago. Check that its device is still mounted.", fault);
        }
    }

    /// <summary>Reads the record once more.</summary>
    /// <param name="record">The record.</param>
    /// <param name="hash">Of the bytes that came before; null: the object ended before.</param>
    /// <param name="destination">As long as the record.</param>
    /// <param name="cancellationToken">Stops before the read.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Unavailable"/>: something else comes now.</exception>
    public async ValueTask RequireSameAsync(IndexedRecord record, Id32? hash, Memory<byte> destination, CancellationToken cancellationToken)
    {
        var again = await TryReadAsync(record, destination, cancellationToken) ? HashOf(destination.Span) : (Id32?)null;
        if (again != hash)
        {
            throw new FaultException(FaultReason.Unavailable, $"The pack {_key} reads differently each time: check its device.");
        }
    }
}

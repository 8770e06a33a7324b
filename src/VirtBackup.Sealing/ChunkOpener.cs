using System.Buffers;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Records;
using ZstdSharp;

namespace VirtBackup.Sealing;

/// <summary>
/// Opens records and proves that they hold the chunk that a map names. Checks run in a fixed order, so that untrusted
/// bytes meet the decompressor only after they are authenticated. One per worker: not safe for concurrent use. Does not
/// own the keys.
/// </summary>
public sealed class ChunkOpener : IDisposable
{
    private readonly ChunkKeyRing _keys;
    private readonly Decompressor _decompressor = new();
    private byte[]? _packed;

    public ChunkOpener(ChunkKeyRing keys)
    {
        ArgumentNullException.ThrowIfNull(keys);
        _keys = keys;
        _packed = [];
    }

    /// <summary>Opens one record into <paramref name="destination"/>.</summary>
    /// <param name="record">Header and payload, nothing else.</param>
    /// <param name="id">The id that the map names.</param>
    /// <param name="secret">The chunk's secret, from <see cref="VmKey.Unmask"/>.</param>
    /// <param name="destination">Exactly as long as the map says the chunk is. Cleared when the record is refused after decryption began.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Corrupt"/> or <see cref="FaultReason.Malformed"/>: not the chunk; <see cref="FaultReason.Denied"/>:
    /// the id key of the record's scope and generation is not at hand. The message names the id.
    /// </exception>
    public void Open(ReadOnlySpan<byte> record, Id32 id, ChunkSecret secret, Span<byte> destination)
    {
        ObjectDisposedException.ThrowIf(_packed is null, this);
        Check.That(destination.Length is > 0 and <= Limits.ChunkBytesMax);
        if (!RecordHeader.TryParse(record, out var header) || header.Kind != RecordKind.Data || header.RecordLength != record.Length)
        {
            throw Refusal(id, "its record's header is damaged or does not fit its length");
        }
        if (header.Id != id)
        {
            throw Refusal(id, $"the record is that of chunk {header.Id}");
        }
        var keys = _keys.Find(header.Scope, header.IdGeneration)
            ?? throw new FaultException(FaultReason.Denied, $"Chunk {id} cannot be checked: the id key of scope {header.Scope}, generation {header.IdGeneration}, is not at hand.");
        try
        {
            OpenPayload(record, header, secret, destination);
            if (keys.ComputeSecret(destination) != secret || secret.DeriveId() != id)
            {
                throw Refusal(id, "its contents do not match its id");
            }
        }
        catch
        {
            destination.Clear();
            throw;
        }
    }

    private void OpenPayload(ReadOnlySpan<byte> record, RecordHeader header, ChunkSecret secret, Span<byte> destination)
    {
        var payload = record[RecordHeader.Size..];
        var authenticated = record[..RecordHeader.AuthenticatedBytes];
        var packedLength = payload.Length - RecordHeader.SealingBytes;
        // A raw chunk of the expected length is decrypted in place; everything else goes through the scratch buffer.
        var direct = header.Codec == RecordCodec.Raw && packedLength == destination.Length;
        var packed = direct ? destination : Scratch(packedLength);
        Span<byte> key = stackalloc byte[KeyDerivation.KeyBytes];
        secret.DeriveRecordKey(key);
        var opened = Gcm.TryOpen(key, payload, authenticated, packed);
        CryptographicOperations.ZeroMemory(key);
        if (!opened)
        {
            throw Refusal(header.Id, "it does not open: the record was changed after sealing");
        }
        if (header.RawLength != destination.Length)
        {
            throw Refusal(header.Id, $"it has {header.RawLength} bytes where the map says {destination.Length}");
        }
        if (header.Codec == RecordCodec.Zstd)
        {
            Decompress(header.Id, packed, destination);
        }
    }

    private void Decompress(Id32 id, ReadOnlySpan<byte> packed, Span<byte> destination)
    {
        if (!ZstdFrame.IsExactly(packed, destination.Length))
        {
            throw Refusal(id, "its compressed form is not one frame of the chunk's length");
        }
        try
        {
            if (_decompressor.TryUnwrap(packed, destination, out var written) && written == destination.Length)
            {
                return;
            }
        }
        catch (ZstdException e)
        {
            throw new FaultException(FaultReason.Corrupt, $"Chunk {id} was refused: its compressed form is damaged.", e);
        }
        throw Refusal(id, "it decompresses to another length");
    }

    private Span<byte> Scratch(int length)
    {
        if (_packed!.Length < length)
        {
            Return(_packed);
            _packed = [];
            _packed = ArrayPool<byte>.Shared.Rent(length);
        }
        return _packed.AsSpan(0, length);
    }

    private static FaultException Refusal(Id32 id, string why) => FaultException.Corrupt($"Chunk {id} was refused: {why}.");

    private static void Return(byte[] buffer)
    {
        if (buffer.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(buffer, clearArray: true);
        }
    }

    public void Dispose()
    {
        if (_packed is { } packed)
        {
            _packed = null;
            Return(packed);
            _decompressor.Dispose();
        }
    }
}

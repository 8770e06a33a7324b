using System.Buffers;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Records;
using ZstdSharp;

namespace VirtBackup.Sealing;

/// <summary>
/// Names chunks and turns them into records. One per worker: not safe for concurrent use. Buffers and the compressor are
/// reused from chunk to chunk. Does not own the keys.
/// </summary>
public sealed class ChunkSealer : IDisposable
{
    /// <summary>zstd level: the fastest, about 2.4 : 1 on system disks.</summary>
    public const int CompressionLevel = 1;

    private readonly ChunkKeys _keys;
    private readonly IEntropy _entropy;
    private readonly Compressor _compressor = new(CompressionLevel);
    private readonly int _chunkBytesMax;
    private byte[]? _packed;

    /// <param name="keys">Of the scope whose chunks are sealed.</param>
    /// <param name="entropy">Source of nonces.</param>
    /// <param name="chunkBytesMax">No longer chunk will come, bytes.</param>
    public ChunkSealer(ChunkKeys keys, IEntropy entropy, int chunkBytesMax = Limits.ChunkBytesMax)
    {
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(entropy);
        Check.That(chunkBytesMax is > 0 and <= Limits.ChunkBytesMax);
        _keys = keys;
        _entropy = entropy;
        _chunkBytesMax = chunkBytesMax;
        _packed = ArrayPool<byte>.Shared.Rent(chunkBytesMax);
    }

    /// <summary>The longest record of a chunk of <paramref name="length"/> bytes: what <see cref="Seal"/> needs room for.</summary>
    public static int RecordBytesMax(int length) => RecordHeader.Size + RecordHeader.SealingBytes + length;

    /// <summary>Names a chunk.</summary>
    /// <param name="plain">The chunk, 1 byte or more.</param>
    /// <param name="id">Its id; zero when every byte is zero.</param>
    /// <param name="secret">What <see cref="Seal"/> and <see cref="VmKey.Mask"/> need; default for zeros.</param>
    /// <returns>False when every byte is zero: there is nothing to seal.</returns>
    public bool ComputeId(ReadOnlySpan<byte> plain, out Id32 id, out ChunkSecret secret)
    {
        Check.That(plain.Length > 0 && plain.Length <= _chunkBytesMax);
        (id, secret) = (default, default);
        if (plain.IndexOfAnyExcept((byte)0) < 0)
        {
            return false;
        }
        secret = _keys.ComputeSecret(plain);
        id = secret.DeriveId();
        return true;
    }

    /// <summary>Compresses (if that makes it shorter) and seals a chunk.</summary>
    /// <param name="plain">The chunk.</param>
    /// <param name="id">From <see cref="ComputeId"/> of the same bytes.</param>
    /// <param name="secret">From <see cref="ComputeId"/> of the same bytes.</param>
    /// <param name="destination">At least <see cref="RecordBytesMax"/> bytes; receives header and payload.</param>
    /// <returns>Bytes of the record.</returns>
    public int Seal(ReadOnlySpan<byte> plain, Id32 id, ChunkSecret secret, Span<byte> destination)
    {
        ObjectDisposedException.ThrowIf(_packed is null, this);
        Check.That(plain.Length > 0 && plain.Length <= _chunkBytesMax && !id.IsZero && destination.Length >= RecordBytesMax(plain.Length));
        var compressed = _compressor.TryWrap(plain, _packed.AsSpan(0, plain.Length - 1), out var packedLength);
        var packed = compressed ? _packed.AsSpan(0, packedLength) : plain;
        var header = new RecordHeader(RecordKind.Data, compressed ? RecordCodec.Zstd : RecordCodec.Raw, plain.Length,
            packed.Length + RecordHeader.SealingBytes, id, _keys.Scope, _keys.Generation);
        header.Write(destination);
        Span<byte> key = stackalloc byte[KeyDerivation.KeyBytes];
        secret.DeriveRecordKey(key);
        Gcm.Seal(key, packed, destination[..RecordHeader.AuthenticatedBytes], destination.Slice(RecordHeader.Size, header.SealedLength), _entropy);
        CryptographicOperations.ZeroMemory(key);
        return header.RecordLength;
    }

    public void Dispose()
    {
        if (_packed is { } packed)
        {
            _packed = null;
            ArrayPool<byte>.Shared.Return(packed, clearArray: true);
            _compressor.Dispose();
        }
    }
}

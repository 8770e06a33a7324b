using System.Runtime.InteropServices;
using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>
/// The secret t of a chunk: HMAC-SHA-256 of its plaintext. Id and record key follow from it; maps carry it masked. Never
/// printed or compared with text.
/// </summary>
public readonly record struct ChunkSecret
{
    private readonly Id32 _bytes;

    private ChunkSecret(Id32 bytes) => _bytes = bytes;

    public static ChunkSecret Read(ReadOnlySpan<byte> source) => new(Id32.Read(source));

    public void Write(Span<byte> destination) => _bytes.Write(destination);

    /// <summary>With a mask, which taken twice gives the secret back.</summary>
    internal Id32 Mask(Id32 mask) => _bytes ^ mask;

    /// <inheritdoc cref="Mask"/>
    internal static ChunkSecret Unmask(Id32 masked, Id32 mask) => new(masked ^ mask);

    /// <summary>The chunk id that belongs to this secret: HKDF-Expand(t, "chunk id").</summary>
    public Id32 DeriveId()
    {
        Span<byte> bytes = stackalloc byte[2 * KeyDerivation.KeyBytes];
        Write(bytes);
        KeyDerivation.Expand(bytes[..KeyDerivation.KeyBytes], "chunk id"u8, bytes[KeyDerivation.KeyBytes..]);
        var id = Id32.Read(bytes[KeyDerivation.KeyBytes..]);
        CryptographicOperations.ZeroMemory(bytes);
        return id;
    }

    internal void DeriveRecordKey(Span<byte> destination)
    {
        Span<byte> bytes = stackalloc byte[KeyDerivation.KeyBytes];
        Write(bytes);
        KeyDerivation.Expand(bytes, "record key"u8, destination);
        CryptographicOperations.ZeroMemory(bytes);
    }

    public override string ToString() => nameof(ChunkSecret);
}

/// <summary>
/// The keys derived from an <see cref="IdKey"/>: one computes chunk secrets, one seeds the gear table of the
/// content-defined chunker. Safe for concurrent use until disposed.
/// </summary>
public sealed class ChunkKeys : IDisposable
{
    private readonly SecretBytes _mac = new();
    private readonly SecretBytes _gear = new();

    internal ChunkKeys(Id16 scope, ushort generation, ReadOnlySpan<byte> idKey)
    {
        Scope = scope;
        Generation = generation;
        KeyDerivation.Expand(idKey, "mac"u8, _mac.Span);
        KeyDerivation.Expand(idKey, "gear"u8, _gear.Span);
    }

    public Id16 Scope { get; }

    public ushort Generation { get; }

    /// <summary>
    /// Fills the table of the content-defined chunker: entry i is u64 i mod 4 (little-endian) of
    /// HKDF-Expand(GearKey, "gear table" ‖ u8 i div 4).
    /// </summary>
    /// <param name="table">256 entries.</param>
    public void FillGearTable(Span<ulong> table)
    {
        Check.That(table.Length == 256);
        var bytes = MemoryMarshal.AsBytes(table);
        Span<byte> index = stackalloc byte[1];
        for (var i = 0; i < 64; i++)
        {
            index[0] = (byte)i;
            KeyDerivation.Expand(_gear.Span, "gear table"u8, index, bytes.Slice(i * 32, 32));
        }
        if (!BitConverter.IsLittleEndian)
        {
            System.Buffers.Binary.BinaryPrimitives.ReverseEndianness(table, table);
        }
    }

    /// <summary>t = HMAC-SHA-256(MacKey, plaintext).</summary>
    public ChunkSecret ComputeSecret(ReadOnlySpan<byte> plain)
    {
        Span<byte> secret = stackalloc byte[KeyDerivation.KeyBytes];
        HMACSHA256.HashData(_mac.Span, plain, secret);
        var read = ChunkSecret.Read(secret);
        CryptographicOperations.ZeroMemory(secret);
        return read;
    }

    public void Dispose()
    {
        _mac.Dispose();
        _gear.Dispose();
    }
}

using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Format.Manifests;

/// <summary>
/// Stands at a manifest's own key when a commit was given up (FORMAT.md, "Abort tombstone"): the manifest can never appear
/// there any more, so an unknown outcome is settled for good.
/// </summary>
/// <param name="Vm">Of the manifest's key.</param>
/// <param name="Point">Of the manifest's key.</param>
/// <param name="Generation">Owner generation that gave up.</param>
/// <param name="CreatedMs">Unix milliseconds.</param>
public sealed record AbortTombstone(Id16 Vm, Id16 Point, long Generation, long CreatedMs)
{
    /// <summary>Bytes of the object.</summary>
    public const int Size = 96;

    private static ReadOnlySpan<byte> Magic => "VBABORT\x1a"u8;

    /// <summary>Whether an object under a manifest's key is a tombstone and not a manifest.</summary>
    public static bool IsTombstone(ReadOnlySpan<byte> bytes) => bytes.Length == Size && bytes.StartsWith(Magic);

    public byte[] ToBytes()
    {
        Check.That(Generation >= 0 && CreatedMs >= 0);
        var bytes = new byte[Size];
        var writer = new ByteWriter(bytes);
        writer.Bytes(Magic);
        writer.Byte(1);
        writer.Zeros(7);
        writer.Id16(Vm);
        writer.Id16(Point);
        writer.Int64(Generation);
        writer.Int64(CreatedMs);
        SHA256.HashData(bytes.AsSpan(0, writer.Position), writer.Take(Id32.Size));
        return bytes;
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>, <see cref="FaultReason.Corrupt"/> or <see cref="FaultReason.Unsupported"/>.</exception>
    public static AbortTombstone Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != Size)
        {
            throw FaultException.Malformed($"An abort tombstone has {bytes.Length} bytes; {Size} were expected.");
        }
        Span<byte> hash = stackalloc byte[Id32.Size];
        SHA256.HashData(bytes[..^Id32.Size], hash);
        if (!hash.SequenceEqual(bytes[^Id32.Size..]))
        {
            throw FaultException.Corrupt("The abort tombstone does not match its hash.");
        }
        var reader = new ByteReader(bytes, "abort tombstone");
        reader.Expect(Magic, "magic");
        reader.Version(1);
        reader.Reserved(7);
        return new AbortTombstone(reader.Id16(), reader.Id16(), reader.Int63("generation"), reader.Int63("creation time"));
    }
}

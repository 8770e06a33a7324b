using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;

namespace VirtBackup.Sealing.Tests;

/// <summary>Bytes 0, 1, 2, … over all calls: what the golden values were made with.</summary>
internal sealed class CountingEntropy : IEntropy
{
    private int _next;

    public void Fill(Span<byte> destination)
    {
        foreach (ref var value in destination)
        {
            value = (byte)_next++;
        }
    }
}

internal static class Fixtures
{
    public static Id16 Scope { get; } = Name(0x55);

    public static byte[] RootBytes { get; } = Enumerable.Range(0, 32).Select(i => (byte)i).ToArray();

    public static byte[] VmKeyBytes { get; } = Enumerable.Range(0x40, 32).Select(i => (byte)i).ToArray();

    public static byte[] Text { get; } = Enumerable.Repeat("VirtBackup chunk "u8.ToArray(), 100).SelectMany(part => part).ToArray();

    public static byte[] Small { get; } = Enumerable.Range(1, 16).Select(i => (byte)i).ToArray();

    public static Id16 Name(byte value) => Id16.Read(Filled(value, 16));

    public static byte[] Filled(byte value, int length)
    {
        var bytes = new byte[length];
        bytes.AsSpan().Fill(value);
        return bytes;
    }

    public static string Hex(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(bytes);

    public static IdKey IdKey(ushort generation = 3)
    {
        using var root = RootSecret.FromBytes(RootBytes);
        return root.DeriveIdKey(Scope, generation);
    }

    public static ChunkKeys ChunkKeys() => IdKey().DeriveChunkKeys();

    public static ChunkKeyRing KeyRing() => new([IdKey(), IdKey(4)]);

    public static VmKey VmKey() => Sealing.VmKey.FromBytes(VmKeyBytes);

    /// <summary>The recipient whose private scalar is 32 bytes of 0x11.</summary>
    public static AgreementKey Recipient() => AgreementKey.Create(new ConstantEntropy(0x11));

    public static byte[] Random(int length, int seed)
    {
        var bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    public static byte[] Seal(byte[] plain, out Id32 id, out ChunkSecret secret, IEntropy? entropy = null)
    {
        using var sealer = new ChunkSealer(ChunkKeys(), entropy ?? SystemEntropy.Instance);
        Assert.True(sealer.ComputeId(plain, out id, out secret));
        var record = new byte[ChunkSealer.RecordBytesMax(plain.Length)];
        return record[..sealer.Seal(plain, id, secret, record)];
    }

    public static byte[] Open(byte[] record, Id32 id, ChunkSecret secret, int length)
    {
        using var keys = KeyRing();
        using var opener = new ChunkOpener(keys);
        var plain = new byte[length];
        opener.Open(record, id, secret, plain);
        return plain;
    }

    public static FaultException Refused(Action action) => Assert.Throws<FaultException>(action);

    public static ManifestHead Head(ECDsa signer, VmKey key) => new()
    {
        Consistency = Consistency.Crash, Repository = Name(1), Vm = Name(2), Lineage = Name(3), Point = Name(4), Scope = Scope, IdGeneration = 3,
        Generation = 1, Attempt = 1, Sequence = 1, CreatedMs = 1, AgentKeyId = KeyId.Compute(signer.ExportSubjectPublicKeyInfo()), BodyEpochIndex = 0,
        Streams = [new ManifestStream(Name(9), StreamKind.Disk, new MapGeometry(MapShape.Default, 1 << 20), default)], Epochs = [key.EpochId],
    };

    public static ManifestBody Body { get; } = new() { VmName = "web-01", HypervisorKind = "qemu", Streams = [], AgentName = "host-7" };
}

internal sealed class ConstantEntropy(byte value) : IEntropy
{
    public void Fill(Span<byte> destination) => destination.Fill(value);
}

using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;

namespace VirtBackup.Sealing;

/// <summary>
/// The keys to read one recovery point: its VM keys and the id keys of its chunks' scopes. It travels sealed to the
/// one-time key of a <see cref="GrantRequest"/> and is bound to VM, point, agent, expiry and nonce (FORMAT.md, "Grant").
/// Owns its keys.
/// </summary>
public sealed class RestoreGrant : IDisposable
{
    /// <summary>Largest sealed grant, bytes.</summary>
    public const int BytesMax = HeadSize + 6 + (IdKeysMax * IdKeyBytes) + (Limits.EpochsPerPointMax * VmKey.Size) + Gcm.SealingBytes;

    /// <summary>Id keys in one grant.</summary>
    public const int IdKeysMax = 256;

    private const int BoundBytes = 8 + 4 + (4 * Id16.Size) + 8;
    private const int HeadSize = BoundBytes + AgreementPublicKey.PointBytes + 4;
    private const int IdKeyBytes = Id16.Size + 2 + IdKey.Size;
    private const byte FormatVersion = 1;

    private RestoreGrant(long expiresMs, IReadOnlyDictionary<Id16, VmKey> vmKeys, IReadOnlyList<IdKey> idKeys)
    {
        ExpiresMs = expiresMs;
        VmKeys = vmKeys;
        IdKeys = idKeys;
    }

    private static ReadOnlySpan<byte> Magic => "VBGRANT\n"u8;

    private static ReadOnlySpan<byte> Label => "grant"u8;

    /// <summary>Unix milliseconds after which the agent must drop the keys.</summary>
    public long ExpiresMs { get; }

    /// <summary>The point's VM keys by epoch.</summary>
    public IReadOnlyDictionary<Id16, VmKey> VmKeys { get; }

    public IReadOnlyList<IdKey> IdKeys { get; }

    /// <summary>Seals keys for the agent that made <paramref name="request"/>, which the caller has verified.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: too many keys.</exception>
    public static byte[] Seal(GrantRequest request, IReadOnlyCollection<VmKey> vmKeys, IReadOnlyCollection<IdKey> idKeys, long expiresMs, IEntropy entropy)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(vmKeys);
        ArgumentNullException.ThrowIfNull(idKeys);
        Check.That(expiresMs >= 0);
        if (vmKeys.Count > Limits.EpochsPerPointMax || idKeys.Count > IdKeysMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A grant of {vmKeys.Count} VM keys and {idKeys.Count} id keys is over the limit.");
        }
        var plain = GC.AllocateArray<byte>(6 + (idKeys.Count * IdKeyBytes) + (vmKeys.Count * VmKey.Size), pinned: true);
        try
        {
            WritePlain(plain, vmKeys, idKeys);
            var bytes = new byte[HeadSize + plain.Length + Gcm.SealingBytes];
            WriteBound(bytes, request, expiresMs);
            var ephemeral = Ecies.Seal(request.OneTimeKey, Label, bytes.AsSpan(0, BoundBytes), plain, bytes.AsSpan(HeadSize), entropy);
            var writer = new ByteWriter(bytes.AsSpan(BoundBytes));
            writer.Bytes(ephemeral.Point);
            writer.UInt32((uint)(plain.Length + Gcm.SealingBytes));
            return bytes;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(plain);
        }
    }

    /// <summary>Opens the answer to <paramref name="request"/>.</summary>
    /// <param name="bytes">The sealed grant.</param>
    /// <param name="request">The request as the agent made it.</param>
    /// <param name="oneTimeKey">The private half of the request's key; drop it afterwards.</param>
    /// <param name="nowMs">Unix milliseconds; an expired grant is refused.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Denied"/>: expired, or the answer to another request; <see cref="FaultReason.Corrupt"/>: it does
    /// not open; <see cref="FaultReason.Malformed"/> or <see cref="FaultReason.Unsupported"/>: its form.
    /// </exception>
    public static RestoreGrant Open(ReadOnlySpan<byte> bytes, GrantRequest request, AgreementKey oneTimeKey, long nowMs)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(oneTimeKey);
        var reader = new ByteReader(bytes, "grant");
        reader.Expect(Magic, "magic");
        reader.Version(FormatVersion);
        if (reader.Byte() != KeyObject.EciesP256)
        {
            throw new FaultException(FaultReason.Unsupported, "The grant uses an unknown algorithm. Use a newer release.");
        }
        reader.Reserved(2);
        var (vm, point, agent, nonce) = (reader.Id16(), reader.Id16(), reader.Id16(), reader.Id16());
        var expires = reader.Int63("expiry");
        var ephemeral = AgreementPublicKey.FromPoint(reader.Take(AgreementPublicKey.PointBytes));
        var sealedKeys = reader.Take(reader.Count(BytesMax, "length"));
        reader.End();
        if (vm != request.Vm || point != request.Point || agent != request.AgentKeyId || nonce != request.Nonce)
        {
            throw new FaultException(FaultReason.Denied, $"The grant answers another request than that for recovery point {request.Point}.");
        }
        if (sealedKeys.Length < Gcm.SealingBytes + 6)
        {
            throw FaultException.Malformed("The grant is too short to hold keys.");
        }
        var plain = GC.AllocateArray<byte>(sealedKeys.Length - Gcm.SealingBytes, pinned: true);
        try
        {
            if (!Ecies.TryOpen(oneTimeKey, ephemeral, Label, bytes[..BoundBytes], sealedKeys, plain))
            {
                throw FaultException.Corrupt($"The grant for recovery point {point} does not open: it was changed after sealing or made for another key.");
            }
            return expires > nowMs
                ? ReadPlain(plain, expires)
                : throw new FaultException(FaultReason.Denied, $"The grant for recovery point {point} has expired. Ask for a new one.");
        }
        finally
        {
            CryptographicOperations.ZeroMemory(plain);
        }
    }

    private static void WriteBound(Span<byte> destination, GrantRequest request, long expiresMs)
    {
        var writer = new ByteWriter(destination);
        writer.Bytes(Magic);
        writer.Byte(FormatVersion);
        writer.Byte(KeyObject.EciesP256);
        writer.UInt16(0);
        writer.Id16(request.Vm);
        writer.Id16(request.Point);
        writer.Id16(request.AgentKeyId);
        writer.Id16(request.Nonce);
        writer.Int64(expiresMs);
    }

    private static void WritePlain(Span<byte> destination, IReadOnlyCollection<VmKey> vmKeys, IReadOnlyCollection<IdKey> idKeys)
    {
        var writer = new ByteWriter(destination);
        writer.UInt16((ushort)idKeys.Count);
        writer.UInt32((uint)vmKeys.Count);
        foreach (var key in idKeys)
        {
            writer.Id16(key.Scope);
            writer.UInt16(key.Generation);
            key.CopyTo(writer.Take(IdKey.Size));
        }
        foreach (var key in vmKeys)
        {
            key.CopyTo(writer.Take(VmKey.Size));
        }
    }

    private static RestoreGrant ReadPlain(ReadOnlySpan<byte> plain, long expiresMs)
    {
        var reader = new ByteReader(plain, "grant");
        var idKeyCount = reader.UInt16();
        var vmKeyCount = reader.UInt32();
        if (reader.Remaining != ((long)idKeyCount * IdKeyBytes) + ((long)vmKeyCount * VmKey.Size))
        {
            throw FaultException.Malformed("The grant does not have the length that its counts call for.");
        }
        var idKeys = new List<IdKey>(idKeyCount);
        var vmKeys = new Dictionary<Id16, VmKey>((int)vmKeyCount);
        for (var i = 0; i < idKeyCount; i++)
        {
            var scope = reader.Id16();
            var generation = reader.UInt16();
            idKeys.Add(new IdKey(scope, generation, reader.Take(IdKey.Size)));
        }
        for (var i = 0; i < vmKeyCount; i++)
        {
            var key = VmKey.FromBytes(reader.Take(VmKey.Size));
            if (!vmKeys.TryAdd(key.EpochId, key))
            {
                key.Dispose();
            }
        }
        return new RestoreGrant(expiresMs, vmKeys, idKeys);
    }

    public void Dispose()
    {
        foreach (var key in VmKeys.Values)
        {
            key.Dispose();
        }
        foreach (var key in IdKeys)
        {
            key.Dispose();
        }
    }
}

using VirtBackup.Core;
using VirtBackup.Format.Keys;

namespace VirtBackup.Sealing;

/// <summary>Seals VM keys into key objects and opens them (FORMAT.md, "Key object").</summary>
public static class KeySealing
{
    private static ReadOnlySpan<byte> Label => "vm key"u8;

    /// <summary>Seals <paramref name="key"/> to one recipient.</summary>
    public static KeyObject Seal(VmKey key, Id16 repository, Id16 vm, AgreementPublicKey recipient, IEntropy entropy)
    {
        ArgumentNullException.ThrowIfNull(key);
        ArgumentNullException.ThrowIfNull(recipient);
        Span<byte> authenticated = stackalloc byte[4 * Id16.Size];
        WriteNames(authenticated, repository, vm, key.EpochId, recipient.Id);
        using var plain = new SecretBytes();
        key.CopyTo(plain.Span);
        var sealedKey = new byte[KeyObject.SealedBytes];
        var ephemeral = Ecies.Seal(recipient, Label, authenticated, plain.Span, sealedKey, entropy);
        return new KeyObject
        {
            Repository = repository, Vm = vm, Epoch = key.EpochId, Recipient = recipient.Id, Ephemeral = ephemeral.Point.ToArray(), Sealed = sealedKey,
        };
    }

    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Denied"/>: sealed to another key; <see cref="FaultReason.Corrupt"/>: it does not open or holds
    /// another epoch's key; <see cref="FaultReason.Malformed"/>: its public key is not a point of the curve.
    /// </exception>
    public static VmKey Open(KeyObject source, AgreementKey recipient)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(recipient);
        if (source.Recipient != recipient.Public.Id)
        {
            throw new FaultException(FaultReason.Denied, $"The VM key of epoch {source.Epoch} is sealed to key {source.Recipient}, not to {recipient.Public.Id}.");
        }
        var ephemeral = AgreementPublicKey.FromPoint(source.Ephemeral.Span);
        Span<byte> authenticated = stackalloc byte[4 * Id16.Size];
        WriteNames(authenticated, source.Repository, source.Vm, source.Epoch, source.Recipient);
        using var plain = new SecretBytes();
        if (!Ecies.TryOpen(recipient, ephemeral, Label, authenticated, source.Sealed.Span, plain.Span))
        {
            throw FaultException.Corrupt($"The key object of VM {source.Vm}, epoch {source.Epoch}, does not open: it was changed after sealing.");
        }
        var key = VmKey.FromBytes(plain.Span);
        if (key.EpochId == source.Epoch)
        {
            return key;
        }
        key.Dispose();
        throw FaultException.Corrupt($"The key object of VM {source.Vm}, epoch {source.Epoch}, holds another epoch's key.");
    }

    private static void WriteNames(Span<byte> destination, Id16 repository, Id16 vm, Id16 epoch, Id16 recipient)
    {
        repository.Write(destination);
        vm.Write(destination[Id16.Size..]);
        epoch.Write(destination[(2 * Id16.Size)..]);
        recipient.Write(destination[(3 * Id16.Size)..]);
    }
}

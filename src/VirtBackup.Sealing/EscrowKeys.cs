using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>
/// The keys that an escrowed controller holds for its operator: the repository's root secret, from which the chunk-id
/// keys derive, and the private key to which VM keys are sealed. Stored as the root secret (32 bytes) and the restore key
/// as PKCS #8 DER, with nothing behind it. The restore key must not be used concurrently.
/// </summary>
public sealed class EscrowKeys : IDisposable
{
    public EscrowKeys(RootSecret root, AgreementKey restoreKey)
    {
        Root = root;
        RestoreKey = restoreKey;
    }

    /// <summary>Owned by this object.</summary>
    public RootSecret Root { get; }

    /// <summary>Owned by this object.</summary>
    public AgreementKey RestoreKey { get; }

    public static EscrowKeys Create(IEntropy entropy) => new(RootSecret.Create(entropy), AgreementKey.Create(entropy));

    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: not what <see cref="Serialize"/> writes.</exception>
    public static EscrowKeys Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length <= RootSecret.Size)
        {
            throw Damaged(null);
        }
        try
        {
            var restoreKey = AgreementKey.FromPkcs8(bytes[RootSecret.Size..]);
            return new EscrowKeys(RootSecret.FromBytes(bytes[..RootSecret.Size]), restoreKey);
        }
        catch (FaultException broken)
        {
            throw Damaged(broken);
        }
    }

    /// <summary>The bytes to store, in clear; the caller wipes them.</summary>
    public byte[] Serialize()
    {
        var key = RestoreKey.ExportPkcs8();
        try
        {
            var bytes = new byte[RootSecret.Size + key.Length];
            Root.CopyTo(bytes);
            key.CopyTo(bytes, RootSecret.Size);
            return bytes;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(key);
        }
    }

    public void Dispose()
    {
        Root.Dispose();
        RestoreKey.Dispose();
    }

    private static FaultException Damaged(Exception? cause) =>
        new(FaultReason.Corrupt, "The escrowed keys are damaged: restore the file from the recovery kit.", cause);
}

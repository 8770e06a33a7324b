using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// An agent's keys and certificates: those of a <see cref="ClientKeyStore"/>, and <c>signing.key</c>, a separate P-256 key that
/// signs manifests.
/// </summary>
public sealed class AgentKeyStore : ClientKeyStore
{
    private const string SigningKeyName = "signing.key";

    private AgentKeyStore(string folder, TimeProvider time)
        : base(folder, "enrol this host again with a new join token", time)
    {
        try
        {
            SigningKey = LoadOrCreateKey(Path.Combine(folder, SigningKeyName));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The key that signs manifests. Owned by this object; its instance members are not safe for concurrent use.</summary>
    public ECDsa SigningKey { get; }

    /// <summary>Opens the folder; what is missing of folder and keys is made.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Denied"/>: others may read a key or enter the folder (the message has the command that mends it).
    /// <see cref="FaultReason.Corrupt"/> or <see cref="FaultReason.Malformed"/>: a file is damaged.
    /// </exception>
    public static AgentKeyStore LoadOrCreate(string folder, TimeProvider time) => new(folder, time);

    /// <summary>The public half of the signing key (SubjectPublicKeyInfo, DER), which the controller enters in its roster.</summary>
    public byte[] ExportSigningPublicKey() => SigningKey.ExportSubjectPublicKeyInfo();

    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        if (disposing)
        {
            // Null when the key could not be read.
            SigningKey?.Dispose();
        }
    }
}

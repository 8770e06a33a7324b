using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>
/// The keys that an escrowed controller holds for its operator: the root of all chunk-id keys, and the private key to
/// which VM keys are sealed. Stored as IdRoot (32 bytes) and the RestoreKey as PKCS #8 DER, nothing after it.
/// </summary>
public sealed class EscrowKeys : IDisposable
{
    /// <summary>Length of <see cref="IdRoot"/>, bytes.</summary>
    public const int IdRootBytes = 32;

    private readonly byte[] _idRoot;

    private EscrowKeys(byte[] idRoot, ECDiffieHellman restoreKey)
    {
        _idRoot = idRoot;
        RestoreKey = restoreKey;
    }

    /// <summary>Chunk-id keys derive from it; never logged, never sent.</summary>
    public ReadOnlyMemory<byte> IdRoot => _idRoot;

    /// <summary>P-256, with its private part. Owned by this object.</summary>
    public ECDiffieHellman RestoreKey { get; }

    public static EscrowKeys Create(IEntropy entropy)
    {
        ArgumentNullException.ThrowIfNull(entropy);
        var idRoot = new byte[IdRootBytes];
        entropy.Fill(idRoot);
        return new EscrowKeys(idRoot, ECDiffieHellman.Create(ECCurve.NamedCurves.nistP256));
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: not what <see cref="Serialize"/> writes.</exception>
    public static EscrowKeys Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length <= IdRootBytes)
        {
            throw Corrupt(null);
        }
        var key = ECDiffieHellman.Create();
        try
        {
            key.ImportPkcs8PrivateKey(bytes[IdRootBytes..], out var used);
            var parameters = key.ExportParameters(includePrivateParameters: false);
            if (used != bytes.Length - IdRootBytes || parameters.Curve.Oid.Value != "1.2.840.10045.3.1.7")
            {
                throw new CryptographicException("A P-256 key, and nothing after it, was expected.");
            }
            return new EscrowKeys(bytes[..IdRootBytes].ToArray(), key);
        }
        catch (CryptographicException broken)
        {
            key.Dispose();
            throw Corrupt(broken);
        }
    }

    /// <summary>The bytes to store; the caller zeroes them.</summary>
    public byte[] Serialize()
    {
        var key = RestoreKey.ExportPkcs8PrivateKey();
        try
        {
            return [.. _idRoot, .. key];
        }
        finally
        {
            CryptographicOperations.ZeroMemory(key);
        }
    }

    public void Dispose()
    {
        CryptographicOperations.ZeroMemory(_idRoot);
        RestoreKey.Dispose();
    }

    private static FaultException Corrupt(Exception? cause) =>
        new(FaultReason.Corrupt, "The escrowed keys are damaged: restore the file from the recovery kit.", cause);
}

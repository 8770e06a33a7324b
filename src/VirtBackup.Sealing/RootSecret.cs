using System.Buffers.Binary;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>
/// A repository's root secret, 32 bytes: kept by the operator or in escrow, never in the repository. It yields the id keys
/// and unwraps the keyring. Safe for concurrent use until disposed.
/// </summary>
public sealed class RootSecret : IDisposable
{
    /// <summary>Bytes of the secret.</summary>
    public const int Size = KeyDerivation.KeyBytes;

    private readonly SecretBytes _secret;

    private RootSecret(SecretBytes secret) => _secret = secret;

    public static RootSecret Create(IEntropy entropy)
    {
        ArgumentNullException.ThrowIfNull(entropy);
        var secret = new SecretBytes();
        entropy.Fill(secret.Span);
        return new RootSecret(secret);
    }

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: not 32 bytes.</exception>
    public static RootSecret FromBytes(ReadOnlySpan<byte> bytes) => bytes.Length == Size
        ? new RootSecret(SecretBytes.From(bytes))
        : throw new FaultException(FaultReason.InvalidArgument, $"A root secret has {Size} bytes; {bytes.Length} were given.");

    /// <summary>Copies the secret out, for its safekeeping; the caller wipes the copy.</summary>
    public void CopyTo(Span<byte> destination) => _secret.Span.CopyTo(destination);

    /// <summary>The id key of a scope's generation: IdKey = HKDF-Expand(IdRoot, "id" ‖ scope ‖ generation).</summary>
    public IdKey DeriveIdKey(Id16 scope, ushort generation)
    {
        using var root = new SecretBytes();
        KeyDerivation.Derive(_secret.Span, [], "id root"u8, root.Span);
        Span<byte> context = stackalloc byte[Id16.Size + sizeof(ushort)];
        scope.Write(context);
        BinaryPrimitives.WriteUInt16LittleEndian(context[Id16.Size..], generation);
        using var key = new SecretBytes();
        KeyDerivation.Expand(root.Span, "id"u8, context, key.Span);
        return new IdKey(scope, generation, key.Span);
    }

    internal void DeriveKeyringKey(Span<byte> destination) => KeyDerivation.Derive(_secret.Span, [], "keyring"u8, destination);

    public void Dispose() => _secret.Dispose();

    public override string ToString() => nameof(RootSecret);
}

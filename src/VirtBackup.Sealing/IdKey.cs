using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>
/// The key that names chunks within one scope and generation. Whoever has it can confirm guesses of chunks' contents, so
/// only agents and the escrow hold it. Safe for concurrent use until disposed.
/// </summary>
public sealed class IdKey : IDisposable
{
    /// <summary>Bytes of the key.</summary>
    public const int Size = KeyDerivation.KeyBytes;

    private readonly SecretBytes _key;

    /// <summary>Takes a copy of <paramref name="key"/>, 32 bytes.</summary>
    public IdKey(Id16 scope, ushort generation, ReadOnlySpan<byte> key)
    {
        Check.That(key.Length == Size);
        Scope = scope;
        Generation = generation;
        _key = SecretBytes.From(key);
    }

    public Id16 Scope { get; }

    public ushort Generation { get; }

    /// <summary>Copies the key out, for sealing it to somebody; the caller wipes the copy.</summary>
    public void CopyTo(Span<byte> destination) => _key.Span.CopyTo(destination);

    /// <summary>The working keys.</summary>
    public ChunkKeys DeriveChunkKeys() => new(Scope, Generation, _key.Span);

    public void Dispose() => _key.Dispose();

    public override string ToString() => $"IdKey of scope {Scope}, generation {Generation}";
}

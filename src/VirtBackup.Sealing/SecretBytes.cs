using System.Security.Cryptography;

namespace VirtBackup.Sealing;

/// <summary>A 32-byte secret at a fixed place in memory (the collector never leaves copies), wiped on dispose.</summary>
internal sealed class SecretBytes : IDisposable
{
    private readonly byte[] _bytes = GC.AllocateArray<byte>(KeyDerivation.KeyBytes, pinned: true);
    private bool _disposed;

    /// <exception cref="ObjectDisposedException">The secret was wiped.</exception>
    public Span<byte> Span
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _bytes;
        }
    }

    public static SecretBytes From(ReadOnlySpan<byte> bytes)
    {
        var secret = new SecretBytes();
        bytes.CopyTo(secret._bytes);
        return secret;
    }

    public void Dispose()
    {
        _disposed = true;
        CryptographicOperations.ZeroMemory(_bytes);
    }
}

using System.Security.Cryptography;

namespace VirtBackup.Core;

/// <summary>Where keys, nonces and names come from; a simulation supplies its own, seeded. Safe for concurrent use.</summary>
public interface IEntropy
{
    void Fill(Span<byte> destination);
}

/// <summary>The operating system's cryptographic generator.</summary>
public sealed class SystemEntropy : IEntropy
{
    public static SystemEntropy Instance { get; } = new();

    public void Fill(Span<byte> destination) => RandomNumberGenerator.Fill(destination);
}

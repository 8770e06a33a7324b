using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Format.Maps;

/// <summary>The id of a map node: SHA-256("node\0" ‖ node). Keyless, so that every holder can check it.</summary>
public static class NodeId
{
    public static Id32 Compute(ReadOnlySpan<byte> node)
    {
        Span<byte> digest = stackalloc byte[Id32.Size];
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData("node\0"u8);
        hash.AppendData(node);
        hash.GetHashAndReset(digest);
        return Id32.Read(digest);
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: the node is not the one that was asked for.</exception>
    public static void Require(ReadOnlySpan<byte> node, Id32 expected)
    {
        if (Compute(node) != expected)
        {
            throw FaultException.Corrupt($"The bytes of map node {expected} do not match its id.");
        }
    }
}

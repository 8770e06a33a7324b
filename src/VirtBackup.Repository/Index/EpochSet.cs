using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Repository.Index;

/// <summary>
/// The key epochs that a leaf or everything below a node uses: distinct, ascending, immutable. Trees share few such sets,
/// so they are stored once and named by number.
/// </summary>
internal sealed class EpochSet : IEquatable<EpochSet>
{
    private readonly Id16[] _members;

    private EpochSet(Id16[] members, Id32 hash)
    {
        _members = members;
        Hash = hash;
    }

    public static EpochSet Empty { get; } = Create([]);

    /// <summary>SHA-256 of the members: the set's name in the index.</summary>
    public Id32 Hash { get; }

    public ReadOnlySpan<Id16> Members => _members;

    /// <param name="members">Distinct and ascending.</param>
    public static EpochSet Create(Id16[] members)
    {
        for (var i = 1; i < members.Length; i++)
        {
            Check.That(members[i - 1] < members[i]);
        }
        Span<byte> hash = stackalloc byte[Id32.Size];
        SHA256.HashData(Serialise(members), hash);
        return new EpochSet(members, Id32.Read(hash));
    }

    public static EpochSet Parse(ReadOnlySpan<byte> bytes)
    {
        var members = new Id16[bytes.Length / Id16.Size];
        for (var i = 0; i < members.Length; i++)
        {
            members[i] = Id16.Read(bytes[(i * Id16.Size)..]);
        }
        return Create(members);
    }

    public byte[] ToBytes() => Serialise(_members);

    public EpochSet Union(EpochSet other)
    {
        if (other._members.Length == 0 || Contains(other))
        {
            return this;
        }
        return other.Contains(this) ? other : Create([.. _members.Union(other._members).Order()]);
    }

    public bool Contains(EpochSet other)
    {
        if (ReferenceEquals(this, other))
        {
            return true;
        }
        var at = 0;
        foreach (var member in other._members)
        {
            while (at < _members.Length && _members[at] < member)
            {
                at++;
            }
            if (at == _members.Length || _members[at] != member)
            {
                return false;
            }
        }
        return true;
    }

    public bool Equals(EpochSet? other) => other is not null && other.Hash == Hash;

    public override bool Equals(object? obj) => Equals(obj as EpochSet);

    public override int GetHashCode() => Hash.GetHashCode();

    private static byte[] Serialise(Id16[] members)
    {
        var bytes = new byte[members.Length * Id16.Size];
        for (var i = 0; i < members.Length; i++)
        {
            members[i].Write(bytes.AsSpan(i * Id16.Size));
        }
        return bytes;
    }
}

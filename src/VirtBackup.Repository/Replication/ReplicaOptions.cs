using VirtBackup.Core;
using VirtBackup.Format.Manifests;

namespace VirtBackup.Repository.Replication;

/// <summary>A point that is to be pulled, as its source listed it.</summary>
/// <param name="Vm">Its machine.</param>
/// <param name="Point">The point.</param>
/// <param name="ManifestHash">Of its manifest; null: any.</param>
public sealed record ReplicaWish(Id16 Vm, Id16 Point, Id32? ManifestHash = null);

/// <summary>Proves a manifest's signature. The key is the one that the manifest names; whether it may be trusted is the caller's to say.</summary>
/// <exception cref="FaultException">The signature is wrong, or its key is not accepted: the point is not pulled.</exception>
public delegate ValueTask ManifestVerifier(Manifest manifest, ReadOnlyMemory<byte> agentPublicKey, CancellationToken cancellationToken);

/// <summary>How a point is pulled.</summary>
public sealed record ReplicaOptions
{
    public required ManifestVerifier Verify { get; init; }

    /// <summary>Told on every node and record. Must return at once.</summary>
    public IProgress<ReplicaProgress>? Progress { get; init; }

    /// <summary>
    /// Calls for records that are under way at the same time, 1 to 16; beside them at most two for nodes. Twice as many as the source
    /// answers at once, so that it always has the next one.
    /// </summary>
    public int RecordCalls { get; init; } = 8;
}

/// <summary>How far a pull is. All counts begin at 0 with each pull.</summary>
public readonly record struct ReplicaProgress
{
    /// <summary>Bytes that the source sent: manifest, keys, nodes and records.</summary>
    public long ReceivedBytes { get; init; }

    public long Nodes { get; init; }

    public long Records { get; init; }

    /// <summary>Chunks that are missing as far as the map is known, bytes before compression.</summary>
    public long MissingBytes { get; init; }

    /// <summary>Of <see cref="MissingBytes"/>, those that have come.</summary>
    public long FetchedBytes { get; init; }

    /// <summary>The whole map is known: <see cref="MissingBytes"/> grows no more.</summary>
    public bool IsMapKnown { get; init; }
}

/// <summary>A point that is here now.</summary>
/// <param name="ManifestHash">Its manifest's.</param>
/// <param name="WasHere">It had been committed before, and nothing was asked for; a damaged one is made whole.</param>
/// <param name="StoredBytes">Packs that the pull made durable, bytes.</param>
/// <param name="Done">What was received.</param>
public sealed record ReplicaReport(Id32 ManifestHash, bool WasHere, long StoredBytes, ReplicaProgress Done);

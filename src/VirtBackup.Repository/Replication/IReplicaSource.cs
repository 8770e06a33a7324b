using VirtBackup.Core;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Replication;

/// <summary>
/// Another repository, from which recovery points are pulled. What it sends is checked as uploads are: manifests, map nodes, ids,
/// lengths, scopes and completeness. Several calls run at once; an answer is read without waiting for one that was asked for
/// later, so that all may come one after another. Slices are at most <see cref="Limits.SliceBytesMax"/> bytes, and valid until
/// their enumerator moves on; an enumerator may be disposed early.
/// </summary>
public interface IReplicaSource
{
    /// <summary>Ids in one call of <see cref="ReadNodesAsync"/>.</summary>
    const int NodeIdsMax = 1024;

    /// <summary>Names the source in messages.</summary>
    string Name { get; }

    /// <summary>
    /// What the point is, beside its records; holds the point at the source until it is released or the connection ends.
    /// </summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.NotFound"/>: the source has no such point, or no whole one; <see cref="FaultReason.Denied"/>;
    /// <see cref="FaultReason.Unavailable"/>: the source cannot be reached, as any call may say.
    /// </exception>
    ValueTask<ReplicaPoint> ReadPointAsync(Id16 point, CancellationToken cancellationToken);

    /// <summary>Lets the source delete the point again. Ends soon also when the source does not answer.</summary>
    ValueTask ReleaseAsync(Id16 point, CancellationToken cancellationToken);

    /// <summary>Map nodes of a point as a stream of records (FORMAT.md), in the order asked for.</summary>
    /// <param name="point">A point that was read and not released.</param>
    /// <param name="ids">At most <see cref="NodeIdsMax"/>: roots, and children of nodes that were asked for before.</param>
    /// <param name="cancellationToken">Ends the stream.</param>
    IAsyncEnumerable<ReadOnlyMemory<byte>> ReadNodesAsync(Id16 point, IReadOnlyList<Id32> ids, CancellationToken cancellationToken);

    /// <summary>The chunks that cover the ranges, as a stream of records (FORMAT.md), each once, in the order of packs.</summary>
    /// <param name="point">A point that was read and not released.</param>
    /// <param name="stream">One of the point's streams.</param>
    /// <param name="ranges">At most <see cref="RecoveryPointReader.RangesMax"/>, ascending and apart, together at most <see cref="RecoveryPointReader.RangeBytesMax"/>.</param>
    /// <param name="cancellationToken">Ends the stream.</param>
    IAsyncEnumerable<ReadOnlyMemory<byte>> ReadRecordsAsync(Id16 point, Id16 stream, IReadOnlyList<ByteRange> ranges, CancellationToken cancellationToken);
}

/// <summary>A point of another repository, beside its records. The bytes are as the source sent them, unproven.</summary>
/// <param name="Manifest">The manifest object.</param>
/// <param name="KeyObjects">The key objects that the manifest names, in any order.</param>
/// <param name="AgentPublicKey">The signing key of the agent that made the point (SubjectPublicKeyInfo).</param>
public sealed record ReplicaPoint(ReadOnlyMemory<byte> Manifest, IReadOnlyList<ReadOnlyMemory<byte>> KeyObjects, ReadOnlyMemory<byte> AgentPublicKey);

using System.Runtime.CompilerServices;
using Google.Protobuf;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Repository.Replication;

namespace VirtBackup.Controller.Replication.Streams;

/// <summary>A peer's repository over some streams: each ask takes the one with the fewest before it. Safe for concurrent use.</summary>
/// <param name="streams">Stay the caller's; at least one.</param>
/// <param name="store">Of this repository: keeps what opens points with their origin's recovery kit.</param>
internal sealed class PeerReplicaSource(string peer, IReadOnlyList<Conversation> streams, IObjectStore store, TimeProvider time) : IReplicaSource
{
    /// <summary>A source that does not answer is not waited for: it lets go of a point when the stream ends.</summary>
    private static readonly TimeSpan ReleasePatience = TimeSpan.FromSeconds(5);

    private const int KeyObjectsMax = 65_536;
    private const int KeyBytesMax = 1 << 10;
    private const int KeyringsMax = 8;

    private readonly Lock _lock = new();
    private readonly List<Conversation> _streams = [.. streams];
    private readonly Dictionary<Id16, HashSet<Conversation>> _holding = [];

    public string Name => peer;

    /// <summary>Asks this stream, too, from now on.</summary>
    public void Add(Conversation stream)
    {
        lock (_lock)
        {
            _streams.Add(stream);
        }
    }

    public async ValueTask<ReplicaPoint> ReadPointAsync(Id16 point, CancellationToken cancellationToken)
    {
        using var manifest = new MemoryStream();
        var keys = new List<ReadOnlyMemory<byte>>();
        var keyrings = new List<ReadOnlyMemory<byte>>();
        var agentKey = ReadOnlyMemory<byte>.Empty;
        var stream = Take(point);
        await foreach (var part in stream.AskAsync(new Ask { ReadPoint = new ReadPointAsk { PointId = point.ToString() } }, cancellationToken))
        {
            switch (part.Point?.PartCase)
            {
                case PointPart.PartOneofCase.Manifest when manifest.Length + part.Point.Manifest.Length <= Limits.ManifestBytesMax:
                    manifest.Write(part.Point.Manifest.Span);
                    break;
                case PointPart.PartOneofCase.KeyObject when keys.Count < KeyObjectsMax && part.Point.KeyObject.Length <= KeyBytesMax:
                    keys.Add(part.Point.KeyObject.Memory);
                    break;
                case PointPart.PartOneofCase.AgentPublicKey when part.Point.AgentPublicKey.Length <= KeyBytesMax:
                    agentKey = part.Point.AgentPublicKey.Memory;
                    break;
                case PointPart.PartOneofCase.KeyringObject when keyrings.Count < KeyringsMax && part.Point.KeyringObject.Length <= WrappedKey.BytesMax:
                    keyrings.Add(part.Point.KeyringObject.Memory);
                    break;
                default:
                    throw stream.Confused();
            }
        }
        await KeepAsync(keyrings, cancellationToken);
        return new ReplicaPoint(manifest.ToArray(), keys, agentKey);
    }

    public async ValueTask ReleaseAsync(Id16 point, CancellationToken cancellationToken)
    {
        List<Conversation> holding;
        lock (_lock)
        {
            holding = _holding.Remove(point, out var found) ? [.. found] : [];
        }
        using var patience = new CancellationTokenSource(ReleasePatience, time);
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, patience.Token);
        try
        {
            foreach (var stream in holding.Where(static stream => !stream.IsBroken))
            {
                await foreach (var _ in stream.AskAsync(new Ask { ReleasePoint = new ReleasePointAsk { PointId = point.ToString() } }, scope.Token))
                {
                    // Nothing but the end is expected.
                }
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // It learns so when the stream ends.
        }
    }

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadNodesAsync(Id16 point, IReadOnlyList<Id32> ids, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(ids);
        var bytes = new byte[ids.Count * Id32.Size];
        for (var i = 0; i < ids.Count; i++)
        {
            ids[i].Write(bytes.AsSpan(i * Id32.Size));
        }
        return ReadAsync(point, new Ask { ReadNodes = new ReadNodesAsk { PointId = point.ToString(), Ids = UnsafeByteOperations.UnsafeWrap(bytes) } }, cancellationToken);
    }

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadRecordsAsync(Id16 point, Id16 stream, IReadOnlyList<ByteRange> ranges, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(ranges);
        var ask = new ReadRecordsAsk { PointId = point.ToString(), StreamId = stream.ToString() };
        var at = 0L;
        foreach (var range in ranges)
        {
            ask.SkipTake.Add((ulong)(range.Offset - at));
            ask.SkipTake.Add((ulong)range.Length);
            at = range.End;
        }
        return ReadAsync(point, new Ask { ReadRecords = ask }, cancellationToken);
    }

    /// <summary>Before the point: without them nobody could ever open it here. One that is here already stays.</summary>
    private async ValueTask KeepAsync(List<ReadOnlyMemory<byte>> keyrings, CancellationToken cancellationToken)
    {
        foreach (var bytes in keyrings)
        {
            var name = ObjectKeys.RestoreKey(WrappedKey.Parse(bytes.Span).Id);
            if (await store.FindAsync(name, cancellationToken) is null)
            {
                _ = await store.PutAsync(name, bytes, cancellationToken);
            }
        }
    }

    private async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadAsync(Id16 point, Ask ask, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var stream = Take(point);
        await foreach (var part in stream.AskAsync(ask, cancellationToken))
        {
            yield return part.PartCase == Answer.PartOneofCase.Data ? part.Data.Memory : throw stream.Confused();
        }
    }

    private Conversation Take(Id16 point)
    {
        lock (_lock)
        {
            var stream = _streams.Where(static stream => !stream.IsBroken).MinBy(static stream => stream.Outstanding)
                ?? throw new FaultException(FaultReason.Unavailable, $"The connections with {peer} broke off.");
            if (!_holding.TryGetValue(point, out var holding))
            {
                _holding.Add(point, holding = []);
            }
            holding.Add(stream);
            return stream;
        }
    }
}

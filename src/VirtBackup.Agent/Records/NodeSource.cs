using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;
using RecordKind = VirtBackup.Format.Records.RecordKind;

namespace VirtBackup.Agent.Records;

/// <summary>
/// Map nodes of one committed recovery point, each proven by its id. Whoever starts from a trusted root and only asks for
/// ids found in proven nodes reads a proven map. Safe for concurrent use.
/// </summary>
internal sealed class NodeSource(IStoreTransport store, string jobId, ulong attempt, Id16 point, TimeProvider time, IEntropy entropy)
{
    /// <summary>Nodes in one request.</summary>
    public const int IdsMax = 1024;

    private const int AttemptsMax = 8;

    /// <summary>The nodes in the order of <paramref name="ids"/>, none of which may be zero.</summary>
    public async Task<IReadOnlyList<ReadOnlyMemory<byte>>> ReadAsync(IReadOnlyList<Id32> ids, CancellationToken cancellationToken)
    {
        Check.That(ids.Count is > 0 and <= IdsMax);
        var backoff = new Backoff(time, entropy);
        for (var tries = 1; ; tries++)
        {
            try
            {
                return await ReadOnceAsync(ids, cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable && tries < AttemptsMax)
            {
                await backoff.WaitAsync(cancellationToken);
            }
        }
    }

    private async Task<IReadOnlyList<ReadOnlyMemory<byte>>> ReadOnceAsync(IReadOnlyList<Id32> ids, CancellationToken cancellationToken)
    {
        var wanted = new byte[ids.Count * Id32.Size];
        for (var i = 0; i < ids.Count; i++)
        {
            ids[i].Write(wanted.AsSpan(i * Id32.Size));
        }
        var request = new ReadMapNodesRequest
        {
            JobId = jobId,
            Attempt = attempt,
            PointId = point.ToString(),
            Ids = Google.Protobuf.UnsafeByteOperations.UnsafeWrap(wanted),
        };
        var nodes = new List<ReadOnlyMemory<byte>>(ids.Count);
        var slices = store.ReadMapNodesAsync(request, cancellationToken);
        await foreach (var record in RecordStream.ReadAsync(slices, RecordKind.Map, null, cancellationToken))
        {
            if (nodes.Count == ids.Count)
            {
                throw FaultException.Malformed("The controller sent more map nodes than were asked for.");
            }
            NodeId.Require(record.Payload.Span, ids[nodes.Count]);
            nodes.Add(record.Payload);
        }
        return nodes.Count == ids.Count
            ? nodes
            : throw FaultException.Malformed($"The controller sent {nodes.Count} of {ids.Count} map nodes.");
    }
}

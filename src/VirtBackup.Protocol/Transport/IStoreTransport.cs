using VirtBackup.Protocol.Store.V1;

namespace VirtBackup.Protocol.Transport;

/// <summary>
/// The store service as an agent sees it, whatever carries it: gRPC, or memory in a simulation. Failures arrive as
/// <see cref="Core.FaultException"/>; <see cref="Core.FaultReason.Unavailable"/> is worth a retry. Safe for concurrent use.
/// </summary>
public interface IStoreTransport
{
    ValueTask<FindRecoveryPointsResponse> FindRecoveryPointsAsync(FindRecoveryPointsRequest request, CancellationToken cancellationToken);
    ValueTask<BeginSessionResponse> BeginSessionAsync(BeginSessionRequest request, CancellationToken cancellationToken);
    ValueTask<PutKeyResponse> PutKeyAsync(PutKeyRequest request, CancellationToken cancellationToken);
    ValueTask<ProbeChunksResponse> ProbeChunksAsync(ProbeChunksRequest request, CancellationToken cancellationToken);
    IDuplex<UploadRecordsRequest, UploadRecordsResponse> UploadRecords(CancellationToken cancellationToken);
    ValueTask<CommitRecoveryPointResponse> CommitRecoveryPointAsync(CommitRecoveryPointRequest request, CancellationToken cancellationToken);
    ValueTask<AbandonSessionResponse> AbandonSessionAsync(AbandonSessionRequest request, CancellationToken cancellationToken);
    ValueTask<ReadManifestResponse> ReadManifestAsync(ReadManifestRequest request, CancellationToken cancellationToken);

    /// <summary>The nodes' records, cut into slices. A slice is valid until the next one is asked for.</summary>
    IAsyncEnumerable<ReadOnlyMemory<byte>> ReadMapNodesAsync(ReadMapNodesRequest request, CancellationToken cancellationToken);

    /// <summary>Data records, cut into slices. A slice is valid until the next one is asked for.</summary>
    IAsyncEnumerable<ReadOnlyMemory<byte>> ReadRecordsAsync(ReadRecordsRequest request, CancellationToken cancellationToken);
}

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
    IAsyncEnumerable<ReadMapNodesResponse> ReadMapNodesAsync(ReadMapNodesRequest request, CancellationToken cancellationToken);
    IAsyncEnumerable<ReadRecordsResponse> ReadRecordsAsync(ReadRecordsRequest request, CancellationToken cancellationToken);
}

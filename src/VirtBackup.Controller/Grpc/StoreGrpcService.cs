using Google.Protobuf;
using Grpc.Core;
using VirtBackup.Controller.Store;
using VirtBackup.Protocol.Store.V1;

namespace VirtBackup.Controller.Grpc;

/// <summary>The store service over gRPC.</summary>
public sealed class StoreGrpcService(StoreEndpoint endpoint) : StoreService.StoreServiceBase
{
    // Waking the connection for every slice costs more than sending it. The end of the stream flushes what is left.
    private const int SlicesPerFlush = 4;

    private static readonly WriteOptions Gathered = new(WriteFlags.BufferHint);
    private static readonly WriteOptions Flushed = new();

    public override async Task<FindRecoveryPointsResponse> FindRecoveryPoints(FindRecoveryPointsRequest request, ServerCallContext context) =>
        await endpoint.FindRecoveryPointsAsync(CallGate.CallerOf(context), request, context.CancellationToken);

    public override async Task<BeginSessionResponse> BeginSession(BeginSessionRequest request, ServerCallContext context) =>
        await endpoint.BeginSessionAsync(CallGate.CallerOf(context), request, context.CancellationToken);

    public override async Task<PutKeyResponse> PutKey(PutKeyRequest request, ServerCallContext context) =>
        await endpoint.PutKeyAsync(CallGate.CallerOf(context), request, context.CancellationToken);

    public override async Task<ProbeChunksResponse> ProbeChunks(ProbeChunksRequest request, ServerCallContext context) =>
        await endpoint.ProbeChunksAsync(CallGate.CallerOf(context), request, context.CancellationToken);

    public override Task UploadRecords(IAsyncStreamReader<UploadRecordsRequest> requestStream, IServerStreamWriter<UploadRecordsResponse> responseStream, ServerCallContext context) =>
        endpoint.UploadRecordsAsync(
            CallGate.CallerOf(context), new GrpcServerDuplex<UploadRecordsRequest, UploadRecordsResponse>(requestStream, responseStream), context.CancellationToken);

    public override async Task<CommitRecoveryPointResponse> CommitRecoveryPoint(CommitRecoveryPointRequest request, ServerCallContext context) =>
        await endpoint.CommitRecoveryPointAsync(CallGate.CallerOf(context), request, context.CancellationToken);

    public override async Task<AbandonSessionResponse> AbandonSession(AbandonSessionRequest request, ServerCallContext context) =>
        await endpoint.AbandonSessionAsync(CallGate.CallerOf(context), request);

    public override async Task<ReadManifestResponse> ReadManifest(ReadManifestRequest request, ServerCallContext context) =>
        await endpoint.ReadManifestAsync(CallGate.CallerOf(context), request, context.CancellationToken);

    public override async Task ReadMapNodes(ReadMapNodesRequest request, IServerStreamWriter<ReadMapNodesResponse> responseStream, ServerCallContext context)
    {
        await foreach (var slice in endpoint.ReadMapNodesAsync(CallGate.CallerOf(context), request, context.CancellationToken))
        {
            using (slice)
            {
                // Written into the transport's own buffer before the call returns: the slice is free then.
                await responseStream.WriteAsync(new ReadMapNodesResponse { Data = UnsafeByteOperations.UnsafeWrap(slice.Memory) }, context.CancellationToken);
            }
        }
    }

    public override async Task ReadRecords(ReadRecordsRequest request, IServerStreamWriter<ReadRecordsResponse> responseStream, ServerCallContext context)
    {
        var written = 0;
        await foreach (var slice in endpoint.ReadRecordsAsync(CallGate.CallerOf(context), request, context.CancellationToken))
        {
            using (slice)
            {
                responseStream.WriteOptions = ++written % SlicesPerFlush == 0 ? Flushed : Gathered;
                await responseStream.WriteAsync(new ReadRecordsResponse { Data = UnsafeByteOperations.UnsafeWrap(slice.Memory) }, context.CancellationToken);
            }
        }
    }
}

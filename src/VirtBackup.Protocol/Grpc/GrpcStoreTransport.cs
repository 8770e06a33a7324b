using System.Runtime.CompilerServices;
using Grpc.Core;
using Grpc.Net.Client;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Protocol.Grpc;

/// <summary>The store service over a gRPC channel. The channel is the caller's to dispose.</summary>
public sealed class GrpcStoreTransport(GrpcChannel channel, string peer) : IStoreTransport
{
    private static readonly Method<ReadMapNodesRequest, ReceivedSlice> ReadMapNodes =
        ReceivedSlice.MethodOf<ReadMapNodesRequest>(StoreService.Descriptor.FindMethodByName(nameof(ReadMapNodes)));
    private static readonly Method<ReadRecordsRequest, ReceivedSlice> ReadRecords =
        ReceivedSlice.MethodOf<ReadRecordsRequest>(StoreService.Descriptor.FindMethodByName(nameof(ReadRecords)));

    private readonly StoreService.StoreServiceClient _client = new(channel);
    private readonly CallInvoker _invoker = channel.CreateCallInvoker();

    public ValueTask<FindRecoveryPointsResponse> FindRecoveryPointsAsync(FindRecoveryPointsRequest request, CancellationToken cancellationToken) =>
        GrpcCalls.UnaryAsync(_client.FindRecoveryPointsAsync(request, cancellationToken: cancellationToken), peer, cancellationToken);

    public ValueTask<BeginSessionResponse> BeginSessionAsync(BeginSessionRequest request, CancellationToken cancellationToken) =>
        GrpcCalls.UnaryAsync(_client.BeginSessionAsync(request, cancellationToken: cancellationToken), peer, cancellationToken);

    public ValueTask<PutKeyResponse> PutKeyAsync(PutKeyRequest request, CancellationToken cancellationToken) =>
        GrpcCalls.UnaryAsync(_client.PutKeyAsync(request, cancellationToken: cancellationToken), peer, cancellationToken);

    public ValueTask<ProbeChunksResponse> ProbeChunksAsync(ProbeChunksRequest request, CancellationToken cancellationToken) =>
        GrpcCalls.UnaryAsync(_client.ProbeChunksAsync(request, cancellationToken: cancellationToken), peer, cancellationToken);

    public IDuplex<UploadRecordsRequest, UploadRecordsResponse> UploadRecords(CancellationToken cancellationToken) =>
        new GrpcDuplex<UploadRecordsRequest, UploadRecordsResponse>(_client.UploadRecords(cancellationToken: cancellationToken), peer);

    public ValueTask<CommitRecoveryPointResponse> CommitRecoveryPointAsync(CommitRecoveryPointRequest request, CancellationToken cancellationToken) =>
        GrpcCalls.UnaryAsync(_client.CommitRecoveryPointAsync(request, cancellationToken: cancellationToken), peer, cancellationToken);

    public ValueTask<AbandonSessionResponse> AbandonSessionAsync(AbandonSessionRequest request, CancellationToken cancellationToken) =>
        GrpcCalls.UnaryAsync(_client.AbandonSessionAsync(request, cancellationToken: cancellationToken), peer, cancellationToken);

    public ValueTask<ReadManifestResponse> ReadManifestAsync(ReadManifestRequest request, CancellationToken cancellationToken) =>
        GrpcCalls.UnaryAsync(_client.ReadManifestAsync(request, cancellationToken: cancellationToken), peer, cancellationToken);

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadMapNodesAsync(ReadMapNodesRequest request, CancellationToken cancellationToken) =>
        ReadAsync(ReadMapNodes, request, cancellationToken);

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadRecordsAsync(ReadRecordsRequest request, CancellationToken cancellationToken) =>
        ReadAsync(ReadRecords, request, cancellationToken);

    private async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadAsync<TRequest>(
        Method<TRequest, ReceivedSlice> method, TRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
        where TRequest : class
    {
        var call = _invoker.AsyncServerStreamingCall(method, null, new CallOptions(cancellationToken: cancellationToken), request);
        await foreach (var slice in GrpcCalls.StreamAsync(call, peer, cancellationToken))
        {
            using (slice)
            {
                yield return slice.Memory;
            }
        }
    }
}

using Grpc.Core;
using VirtBackup.Controller.Enrollment;
using VirtBackup.Controller.Replication;
using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Protocol.Replication.V1;
using PeerCalls = VirtBackup.Protocol.Replication.V1.ReplicationService;

namespace VirtBackup.Controller.Grpc;

/// <summary>What other controllers call, over gRPC.</summary>
public sealed class ReplicationGrpcService(PeerEnrollment enrollment, ReplicationEndpoint endpoint) : PeerCalls.ReplicationServiceBase
{
    public override async Task<JoinResponse> Join(JoinRequest request, ServerCallContext context) =>
        await enrollment.JoinAsync(request, context.CancellationToken);

    public override async Task<RenewCertificateResponse> RenewCertificate(RenewCertificateRequest request, ServerCallContext context) =>
        await enrollment.RenewAsync(CallGate.CallerOf(context), request, context.CancellationToken);

    public override async Task Pull(IAsyncStreamReader<Ask> requestStream, IServerStreamWriter<Answer> responseStream, ServerCallContext context)
    {
        var caller = CallGate.CallerOf(context);
        await endpoint.PullAsync(caller, new GrpcServerDuplex<Ask, Answer>(requestStream, responseStream, AnsweringEnd.IsFollowed), context.CancellationToken);
    }

    public override async Task Offer(IAsyncStreamReader<Answer> requestStream, IServerStreamWriter<Ask> responseStream, ServerCallContext context)
    {
        var caller = CallGate.CallerOf(context);
        await endpoint.OfferAsync(caller, new GrpcServerDuplex<Answer, Ask>(requestStream, responseStream), context.CancellationToken);
    }
}

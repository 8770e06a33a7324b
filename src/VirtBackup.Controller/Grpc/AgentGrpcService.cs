using Grpc.Core;
using VirtBackup.Controller.Control;
using VirtBackup.Controller.Enrollment;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Grpc;

/// <summary>The agent service over gRPC.</summary>
public sealed class AgentGrpcService(AgentEndpoint endpoint, EnrollmentService enrollment) : AgentService.AgentServiceBase
{
    public override async Task<EnrollResponse> Enroll(EnrollRequest request, ServerCallContext context) =>
        await enrollment.EnrollAsync(request, context.CancellationToken);

    public override async Task<RenewCertificateResponse> RenewCertificate(RenewCertificateRequest request, ServerCallContext context) =>
        await enrollment.RenewAsync(CallGate.CallerOf(context), request, context.CancellationToken);

    public override async Task ReadTaskOptions(ReadTaskOptionsRequest request, IServerStreamWriter<ReadTaskOptionsResponse> responseStream, ServerCallContext context)
    {
        foreach (var slice in endpoint.ReadTaskOptions(CallGate.CallerOf(context), request))
        {
            await responseStream.WriteAsync(slice, context.CancellationToken);
        }
    }

    public override Task Connect(IAsyncStreamReader<ConnectRequest> requestStream, IServerStreamWriter<ConnectResponse> responseStream, ServerCallContext context) =>
        endpoint.ConnectAsync(
            CallGate.CallerOf(context), new GrpcServerDuplex<ConnectRequest, ConnectResponse>(requestStream, responseStream), context.CancellationToken);
}

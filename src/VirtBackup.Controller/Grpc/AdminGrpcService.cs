using Grpc.Core;
using VirtBackup.Controller.Admin;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Grpc;

/// <summary>The admin service over gRPC.</summary>
public sealed class AdminGrpcService(AdminEndpoint endpoint) : AdminService.AdminServiceBase
{
    public override async Task<GetStatusResponse> GetStatus(GetStatusRequest request, ServerCallContext context) =>
        await endpoint.GetStatusAsync(context.CancellationToken);

    public override async Task<CreateJoinTokenResponse> CreateJoinToken(CreateJoinTokenRequest request, ServerCallContext context) =>
        await endpoint.CreateJoinTokenAsync(request, context.CancellationToken);

    public override async Task<ListAgentsResponse> ListAgents(ListAgentsRequest request, ServerCallContext context) =>
        await endpoint.ListAgentsAsync(request, context.CancellationToken);

    public override async Task<RevokeAgentResponse> RevokeAgent(RevokeAgentRequest request, ServerCallContext context) =>
        await endpoint.RevokeAgentAsync(request, context.CancellationToken);

    public override async Task<ListVirtualMachinesResponse> ListVirtualMachines(ListVirtualMachinesRequest request, ServerCallContext context) =>
        await endpoint.ListVirtualMachinesAsync(request, context.CancellationToken);

    public override async Task<GetVirtualMachineResponse> GetVirtualMachine(GetVirtualMachineRequest request, ServerCallContext context) =>
        await endpoint.GetVirtualMachineAsync(request, context.CancellationToken);

    public override async Task<AcceptRunsResponse> AcceptRuns(AcceptRunsRequest request, ServerCallContext context) =>
        await endpoint.AcceptRunsAsync(CallGate.CallerOf(context), request, context.CancellationToken);

    public override async Task<ListRecoveryPointsResponse> ListRecoveryPoints(ListRecoveryPointsRequest request, ServerCallContext context) =>
        await endpoint.ListRecoveryPointsAsync(request, context.CancellationToken);

    public override async Task<GetRecoveryPointResponse> GetRecoveryPoint(GetRecoveryPointRequest request, ServerCallContext context) =>
        await endpoint.GetRecoveryPointAsync(request, context.CancellationToken);

    public override async Task<ForgetRecoveryPointResponse> ForgetRecoveryPoint(ForgetRecoveryPointRequest request, ServerCallContext context) =>
        await endpoint.ForgetRecoveryPointAsync(request, context.CancellationToken);

    public override async Task<StartBackupResponse> StartBackup(StartBackupRequest request, ServerCallContext context) =>
        await endpoint.StartBackupAsync(request, context.CancellationToken);

    public override async Task<StartBackupPlanResponse> StartBackupPlan(StartBackupPlanRequest request, ServerCallContext context) =>
        await endpoint.StartBackupPlanAsync(request, context.CancellationToken);

    public override async Task<StartRestoreResponse> StartRestore(StartRestoreRequest request, ServerCallContext context) =>
        await endpoint.StartRestoreAsync(request, context.CancellationToken);

    public override async Task<StartRestoreCheckResponse> StartRestoreCheck(StartRestoreCheckRequest request, ServerCallContext context) =>
        await endpoint.StartRestoreCheckAsync(request, context.CancellationToken);

    public override async Task<StartCollectionResponse> StartCollection(StartCollectionRequest request, ServerCallContext context) =>
        await endpoint.StartCollectionAsync(request, context.CancellationToken);

    public override async Task<StartScrubResponse> StartScrub(StartScrubRequest request, ServerCallContext context) =>
        await endpoint.StartScrubAsync(request, context.CancellationToken);

    public override async Task<ListDamagesResponse> ListDamages(ListDamagesRequest request, ServerCallContext context) =>
        await endpoint.ListDamagesAsync(request, context.CancellationToken);

    public override async Task<StartVerifyResponse> StartVerify(StartVerifyRequest request, ServerCallContext context) =>
        await endpoint.StartVerifyAsync(request, context.CancellationToken);

    public override async Task<ListJobsResponse> ListJobs(ListJobsRequest request, ServerCallContext context) =>
        await endpoint.ListJobsAsync(request, context.CancellationToken);

    public override async Task<GetJobResponse> GetJob(GetJobRequest request, ServerCallContext context) =>
        await endpoint.GetJobAsync(request, context.CancellationToken);

    public override async Task<CancelJobResponse> CancelJob(CancelJobRequest request, ServerCallContext context) =>
        await endpoint.CancelJobAsync(request, context.CancellationToken);

    public override async Task<GetJobLogResponse> GetJobLog(GetJobLogRequest request, ServerCallContext context) =>
        await endpoint.GetJobLogAsync(request, context.CancellationToken);

    public override async Task WatchJob(WatchJobRequest request, IServerStreamWriter<WatchJobResponse> responseStream, ServerCallContext context)
    {
        await foreach (var response in endpoint.WatchJobAsync(request, context.CancellationToken))
        {
            await responseStream.WriteAsync(response, context.CancellationToken);
        }
    }
}

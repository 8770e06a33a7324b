using Grpc.Core;
using VirtBackup.Controller.Migrations;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Grpc;

/// <summary>The migration service over gRPC.</summary>
public sealed class MigrationGrpcService(MigrationEndpoint endpoint) : MigrationService.MigrationServiceBase
{
    public override async Task<StartMigrationResponse> StartMigration(StartMigrationRequest request, ServerCallContext context) =>
        await endpoint.StartMigrationAsync(request, context.CancellationToken);

    public override async Task<StartMigrationPlanResponse> StartMigrationPlan(StartMigrationPlanRequest request, ServerCallContext context) =>
        await endpoint.StartMigrationPlanAsync(request, context.CancellationToken);

    public override async Task<ListMigrationsResponse> ListMigrations(ListMigrationsRequest request, ServerCallContext context) =>
        await endpoint.ListMigrationsAsync(request, context.CancellationToken);

    public override async Task<GetMigrationResponse> GetMigration(GetMigrationRequest request, ServerCallContext context) =>
        await endpoint.GetMigrationAsync(request, context.CancellationToken);

    public override async Task<RemoveMigratedSourceResponse> RemoveMigratedSource(RemoveMigratedSourceRequest request, ServerCallContext context) =>
        await endpoint.RemoveMigratedSourceAsync(request, context.CancellationToken);
}

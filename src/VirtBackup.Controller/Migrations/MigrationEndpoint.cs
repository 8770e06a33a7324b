using System.Globalization;
using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Migrations;
using VirtBackup.Controller.Admin;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Migrations;

/// <summary>What operators' tools can ask for about moving machines. Safe for concurrent use.</summary>
public sealed class MigrationEndpoint
{
    // They travel in the list of assignments.
    private const int OptionsBytesMax = 16 << 10;

    private readonly CatalogDatabase _catalog;
    private readonly References _references;
    private readonly JobService _jobs;
    private readonly AgentConnections _connections;
    private readonly MigrationRunner _runner;
    private readonly MigrationPlanner _planner;
    private readonly IEntropy _entropy;
    private readonly TimeProvider _time;

    internal MigrationEndpoint(
        CatalogDatabase catalog, References references, JobService jobs, AgentConnections connections, MigrationRunner runner, MigrationPlanner planner, IEntropy entropy, TimeProvider time) =>
        (_catalog, _references, _jobs, _connections, _runner, _planner, _entropy, _time) = (catalog, references, jobs, connections, runner, planner, entropy, time);

    public async ValueTask<StartMigrationResponse> StartMigrationAsync(StartMigrationRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var (machine, options) = await RequireAsync(request.Vm, request.Options, cancellationToken);
        if (options.Storage is null && !machine.Running && !options.Cold)
        {
            options.Cold = true;
        }
        var job = await CreateAsync(JobKind.Migration, machine, options, request.RequestId, cancellationToken);
        if (job.IsFinal)
        {
            // Asked for again: that one is over.
            return new StartMigrationResponse { Job = AdminMessages.ToMessage(job, null) };
        }
        await _runner.StartAsync(
            new MigrationRow
            {
                MigrationId = job.JobId, VmId = machine.VmId, VmName = machine.Name, SourceAgent = machine.Agent, TargetAgent = options.Agent.Length > 0 ? options.Agent : machine.Agent,
                Options = job.Options, Step = options.Storage is null ? MigrationStep.Checking : MigrationStep.MovingStorage, CreatedMs = job.CreatedMs,
            },
            cancellationToken);
        return new StartMigrationResponse { Job = AdminMessages.ToMessage(job, null) };
    }

    public async ValueTask<StartMigrationPlanResponse> StartMigrationPlanAsync(StartMigrationPlanRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var (machine, options) = await RequireAsync(request.Vm, request.Options, cancellationToken);
        var job = await CreateAsync(JobKind.MigrationPlan, machine, options, "", cancellationToken);
        await _planner.StartAsync(job, cancellationToken);
        return new StartMigrationPlanResponse { Job = AdminMessages.ToMessage(job, null) };
    }

    public async ValueTask<ListMigrationsResponse> ListMigrationsAsync(ListMigrationsRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var size = Paging.SizeOf(request.PageSize);
        Id16? vm = request.Vm.Length == 0 ? null : await _references.FindMachineIdAsync(request.Vm, cancellationToken);
        var before = Paging.FromToken(request.PageToken, 2) is [var created, var id]
            ? (long.TryParse(created, NumberStyles.None, CultureInfo.InvariantCulture, out var ms) ? ms : throw Paging.Invalid(), Id16.TryParse(id, out var migration) ? migration : throw Paging.Invalid())
            : ((long, Id16)?)null;
        var rows = await _catalog.Migrations.ListAsync(vm, before, size + 1, cancellationToken);
        var response = new ListMigrationsResponse();
        response.Migrations.Add(rows.Take(size).Select(MigrationMessages.ToMessage));
        response.NextPageToken = rows.Count > size ? Paging.ToToken(rows[size - 1].CreatedMs.ToString(CultureInfo.InvariantCulture), rows[size - 1].MigrationId.ToString()) : "";
        return response;
    }

    public async ValueTask<GetMigrationResponse> GetMigrationAsync(GetMigrationRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return new GetMigrationResponse { Migration = MigrationMessages.ToMessage(await FindAsync(request.MigrationId, cancellationToken)) };
    }

    /// <summary>Deletes what a migration that succeeded left on the source host.</summary>
    public async ValueTask<RemoveMigratedSourceResponse> RemoveMigratedSourceAsync(RemoveMigratedSourceRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var row = await FindAsync(request.MigrationId, cancellationToken);
        if (row.State != JobPhase.Succeeded || row.SourceAgent == row.TargetAgent || row.SourceRemoved)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The migration {row.MigrationId} left no copy on a source host that could be removed.");
        }
        if (await _catalog.Migrations.FindLastFromAsync(row.VmId, row.SourceAgent, cancellationToken) is { } newer && newer != row.MigrationId)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The copy on {row.SourceAgent} is that of a newer migration ({newer}): remove it by that one's id, when it is not needed any more.");
        }
        var machine = await _catalog.Machines.FindAsync(row.VmId, cancellationToken);
        // Whether an inventory has missed it or not.
        if (machine?.Agent == row.SourceAgent)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"{row.VmName} is on {row.SourceAgent} again: nothing of it is removed there.");
        }
        if ((await _catalog.Migrations.ListActiveAsync(cancellationToken)).Find(other => other.VmId == row.VmId) is { } moving)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"{row.VmName} is being migrated (migration {moving.MigrationId}): nothing of it is removed until that is over.");
        }
        var job = await _jobs.CreateAsync(
            new JobRow
            {
                JobId = Id16.Create(_entropy), Kind = JobKind.RetireMachine, Agent = row.SourceAgent, VmId = row.VmId, VmName = row.VmName,
                Options = new RetireMachineTask { Delete = true }.ToByteArray(), CreatedMs = _time.NowMs(),
            },
            cancellationToken);
        return new RemoveMigratedSourceResponse { Job = AdminMessages.ToMessage(job, null) };
    }

    private async ValueTask<MigrationRow> FindAsync(string reference, CancellationToken cancellationToken)
    {
        var job = await _references.FindJobAsync(reference, cancellationToken);
        return await _catalog.Migrations.FindAsync(job.JobId, cancellationToken) ?? throw new FaultException(FaultReason.NotFound, $"The job {job.JobId} is no migration.");
    }

    private async ValueTask<(MachineRow Machine, MigrationOptions Options)> RequireAsync(string vm, MigrationOptions? asked, CancellationToken cancellationToken)
    {
        var options = asked?.Clone() ?? new MigrationOptions();
        MigrationDefaults.Require(options);
        if (options.CalculateSize() > OptionsBytesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A migration's options have at most {OptionsBytesMax} bytes: choose for fewer disks one by one.");
        }
        var machine = await _references.FindPresentMachineAsync(vm, cancellationToken);
        if (options.Agent.Length > 0)
        {
            await _references.RequireAgentAsync(options.Agent, cancellationToken);
            if (options.Agent == machine.Agent)
            {
                throw new FaultException(FaultReason.InvalidArgument, $"'{machine.Name}' is on {machine.Agent} already. Its disks move to another storage there with --to-storage.");
            }
        }
        RequireAble(machine, options);
        return (machine, options);
    }

    // Known before anything is copied, of agents that are there.
    private void RequireAble(MachineRow machine, MigrationOptions options)
    {
        var needed = options.Storage is null ? JobKind.StopMachine : JobKind.MoveStorage;
        foreach (var agent in new[] { machine.Agent, options.Agent }.Where(static agent => agent.Length > 0))
        {
            if (_connections.FindAbilities(agent)?.Refuse(new JobRow { JobId = machine.VmId, Kind = needed, CreatedMs = 0 }) is { } refused)
            {
                throw refused;
            }
        }
    }

    private ValueTask<JobRow> CreateAsync(JobKind kind, MachineRow machine, MigrationOptions options, string requestId, CancellationToken cancellationToken) => _jobs.CreateAsync(
        new JobRow
        {
            JobId = Id16.Create(_entropy), RequestId = WireText.ToRequestId(requestId), Kind = kind, VmId = machine.VmId,
            VmName = machine.Name, Options = options.ToByteArray(), CreatedMs = _time.NowMs(),
        },
        cancellationToken);
}

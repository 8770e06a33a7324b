using System.Globalization;
using System.Runtime.CompilerServices;
using Google.Protobuf.WellKnownTypes;
using VirtBackup.Catalog;
using VirtBackup.Controller.Collection;
using VirtBackup.Controller.Control;
using VirtBackup.Controller.Enrollment;
using VirtBackup.Controller.Retention;
using VirtBackup.Controller.Scrubbing;
using VirtBackup.Controller.Signals;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository;

namespace VirtBackup.Controller.Admin;

/// <summary>What operators' tools can ask for. Safe for concurrent use.</summary>
public sealed class AdminEndpoint(
    ControllerIdentity identity, BackupRepository repository, IObjectStore store, CatalogDatabase catalog, References references, JobStarter starter,
    JobService jobs, TokenService tokens, EnrollmentService enrollment, AgentConnections connections, PointCustody custody, RetentionOutlook outlook, DamageOutlook damages, CollectionOutlook collection, RunSignals signals, TrackingAlerts alerts,
    ITrustedClock clock, TimeProvider time)
{
    private const int RecentJobs = 20;
    private const int RecentRuns = 30;

    private readonly DateTimeOffset _started = time.GetUtcNow();

    public async ValueTask<GetStatusResponse> GetStatusAsync(CancellationToken cancellationToken)
    {
        var statistics = await repository.GetStatisticsAsync(cancellationToken);
        var free = await store.GetFreeBytesAsync(cancellationToken);
        var trusted = await clock.ReadAsync(cancellationToken);
        return new GetStatusResponse
        {
            Version = identity.Version,
            RepositoryId = repository.Head.Uuid.ToString(),
            RepositoryLocation = identity.RepositoryLocation,
            StoredBytes = (ulong)statistics.PackBytes,
            FreeBytes = (ulong)(free ?? 0),
            FreeBytesKnown = free is not null,
            AgentsConnected = (uint)connections.Count,
            AgentsEnrolled = (uint)await catalog.Agents.CountAsync(cancellationToken),
            VirtualMachines = (uint)await catalog.Machines.CountAsync(cancellationToken),
            RecoveryPoints = (ulong)statistics.Points,
            JobsRunning = (uint)jobs.RunningCount,
            Generation = (ulong)repository.Generation,
            Chunks = (ulong)statistics.Chunks,
            Packs = (ulong)statistics.Packs,
            StartTime = Timestamp.FromDateTimeOffset(_started),
            TrustedTime = WireText.ToTimestamp(trusted.NowMs),
            TimeUnconfirmed = !trusted.MayExpire,
            Proof = await damages.DescribeAsync(cancellationToken),
            Collection = await collection.DescribeAsync(cancellationToken),
            StoreTraffic = AdminMessages.ToMessage(store.Traffic),
            VirtualMachinesFlagged = (uint)(await catalog.Runs.ListAbnormalAsync(null, cancellationToken)).DistinctBy(static run => run.VmId).Count(),
            VirtualMachinesSuspect = (uint)await catalog.Audits.CountAlertsAsync(cancellationToken),
        };
    }

    public async ValueTask<CreateJoinTokenResponse> CreateJoinTokenAsync(CreateJoinTokenRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var (text, expires) = await tokens.CreateAsync(request.AgentName, request.LifetimeMinutes, PeerRole.Agent, cancellationToken);
        return new CreateJoinTokenResponse { JoinToken = text, ExpireTime = Timestamp.FromDateTimeOffset(expires) };
    }

    public async ValueTask<ListAgentsResponse> ListAgentsAsync(ListAgentsRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var size = Paging.SizeOf(request.PageSize);
        var after = Paging.FromToken(request.PageToken, 1);
        var rows = await catalog.Agents.ListAsync(after?[0] ?? "", size + 1, cancellationToken);
        var machines = await catalog.Machines.CountByAgentAsync(cancellationToken);
        var response = new ListAgentsResponse();
        response.Agents.Add(rows.Take(size).Select(row => AdminMessages.ToMessage(row, connections.IsConnected(row.Name), machines.GetValueOrDefault(row.Name))));
        response.NextPageToken = rows.Count > size ? Paging.ToToken(rows[size - 1].Name) : "";
        return response;
    }

    public async ValueTask<RevokeAgentResponse> RevokeAgentAsync(RevokeAgentRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var row = await enrollment.RevokeAsync(request.Name, cancellationToken);
        var machines = await catalog.Machines.CountByAgentAsync(cancellationToken);
        return new RevokeAgentResponse { Agent = AdminMessages.ToMessage(row, connected: false, machines.GetValueOrDefault(row.Name)) };
    }

    public async ValueTask<ListVirtualMachinesResponse> ListVirtualMachinesAsync(ListVirtualMachinesRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var size = Paging.SizeOf(request.PageSize);
        var after = Paging.FromToken(request.PageToken, 2) is [var name, var id] ? (name, Id16.TryParse(id, out var vmId) ? vmId : throw Paging.Invalid()) : ((string, Id16)?)null;
        var rows = await catalog.Machines.ListAsync(after, size + 1, cancellationToken);
        var response = new ListVirtualMachinesResponse();
        foreach (var row in rows.Take(size))
        {
            response.VirtualMachines.Add(await ToMessageAsync(row, cancellationToken));
        }
        response.NextPageToken = rows.Count > size ? Paging.ToToken(rows[size - 1].Name, rows[size - 1].VmId.ToString()) : "";
        return response;
    }

    public async ValueTask<GetVirtualMachineResponse> GetVirtualMachineAsync(GetVirtualMachineRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var row = await references.FindMachineAsync(request.Vm, cancellationToken);
        var response = new GetVirtualMachineResponse { VirtualMachine = await ToMessageAsync(row, cancellationToken) };
        foreach (var job in await catalog.Jobs.ListAsync(row.VmId, activeOnly: false, before: null, RecentJobs, cancellationToken))
        {
            response.RecentJobs.Add(await ToMessageAsync(job, cancellationToken));
        }
        response.RecentRuns.Add((await catalog.Runs.ListAsync(row.VmId, RecentRuns, cancellationToken)).Select(SignalMessages.ToMessage));
        response.TrackingAudit = await alerts.DescribeAsync(row.VmId, cancellationToken);
        return response;
    }

    /// <summary>Takes flagged runs of a machine for usual ones, and lets go of what was held for them.</summary>
    public async ValueTask<AcceptRunsResponse> AcceptRunsAsync(Caller caller, AcceptRunsRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        ArgumentNullException.ThrowIfNull(request);
        var row = await references.FindMachineAsync(request.Vm, cancellationToken);
        var isAlertAccepted = await alerts.AcceptAsync(row.VmId, row.Name, caller.Name, cancellationToken);
        var isFlagged = (await catalog.Runs.ListAbnormalAsync(row.VmId, cancellationToken)).Count > 0;
        var (runs, holds) = isAlertAccepted && !isFlagged ? (0, 0) : await signals.AcceptAsync(row.VmId, row.Name, caller.Name, cancellationToken);
        return new AcceptRunsResponse { VmName = row.Name, RunsAccepted = (uint)runs, HoldsReleased = (uint)holds, TrackingAlertAccepted = isAlertAccepted };
    }

    public async ValueTask<ListRecoveryPointsResponse> ListRecoveryPointsAsync(ListRecoveryPointsRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var size = Paging.SizeOf(request.PageSize);
        Id16? vm = request.Vm.Length == 0 ? null : await references.FindMachineIdAsync(request.Vm, cancellationToken);
        var after = Paging.FromToken(request.PageToken, 2) is [var time, var id]
            ? (ParseNumber(time), Id16.TryParse(id, out var pointId) ? pointId : throw Paging.Invalid())
            : ((long, Id16)?)null;
        var rows = await catalog.Points.ListAsync(vm, request.IncludeForgotten, after, size + 1, cancellationToken);
        var response = new ListRecoveryPointsResponse();
        response.RecoveryPoints.Add(rows.Take(size).Select(AdminMessages.ToMessage));
        await outlook.DescribeAsync(response.RecoveryPoints, cancellationToken);
        await damages.DescribeAsync(response.RecoveryPoints, cancellationToken);
        response.NextPageToken = rows.Count > size ? Paging.ToToken(ToText(rows[size - 1].CreatedMs), rows[size - 1].PointId.ToString()) : "";
        return response;
    }

    public async ValueTask<GetRecoveryPointResponse> GetRecoveryPointAsync(GetRecoveryPointRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var row = await references.FindPointAsync(request.Point, cancellationToken);
        var point = AdminMessages.ToMessage(row);
        await outlook.DescribeAsync([point], cancellationToken);
        await damages.DescribeLossesAsync(point, row, cancellationToken);
        return new GetRecoveryPointResponse { RecoveryPoint = point };
    }

    /// <summary>Forgets a point, or brings it back.</summary>
    public async ValueTask<ForgetRecoveryPointResponse> ForgetRecoveryPointAsync(ForgetRecoveryPointRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var row = await references.FindPointAsync(request.Point, cancellationToken);
        if (row.Forgotten == request.Undo)
        {
            if (request.Undo)
            {
                await custody.RecallAsync(row, cancellationToken);
            }
            else
            {
                await custody.ForgetAsync(row, cancellationToken);
            }
        }
        return new ForgetRecoveryPointResponse { RecoveryPoint = AdminMessages.ToMessage(row with { Forgotten = !request.Undo }) };
    }

    public async ValueTask<StartBackupResponse> StartBackupAsync(StartBackupRequest request, CancellationToken cancellationToken) =>
        new() { Job = await ToMessageAsync(await starter.StartBackupAsync(request, cancellationToken), cancellationToken) };

    public async ValueTask<StartBackupPlanResponse> StartBackupPlanAsync(StartBackupPlanRequest request, CancellationToken cancellationToken) =>
        new() { Job = await ToMessageAsync(await starter.StartBackupPlanAsync(request, cancellationToken), cancellationToken) };

    public async ValueTask<StartRestoreResponse> StartRestoreAsync(StartRestoreRequest request, CancellationToken cancellationToken) =>
        new() { Job = await ToMessageAsync(await starter.StartRestoreAsync(request, cancellationToken), cancellationToken) };

    public async ValueTask<StartRestoreCheckResponse> StartRestoreCheckAsync(StartRestoreCheckRequest request, CancellationToken cancellationToken) =>
        new() { Job = await ToMessageAsync(await starter.StartRestoreCheckAsync(request, cancellationToken), cancellationToken) };

    public async ValueTask<StartCollectionResponse> StartCollectionAsync(StartCollectionRequest request, CancellationToken cancellationToken) =>
        new() { Job = await ToMessageAsync(await starter.StartCollectionAsync(request, cancellationToken), cancellationToken) };

    public async ValueTask<StartScrubResponse> StartScrubAsync(StartScrubRequest request, CancellationToken cancellationToken) =>
        new() { Job = await ToMessageAsync(await starter.StartScrubAsync(request, cancellationToken), cancellationToken) };

    public ValueTask<ListDamagesResponse> ListDamagesAsync(ListDamagesRequest request, CancellationToken cancellationToken) => damages.ListAsync(request, cancellationToken);

    public async ValueTask<StartVerifyResponse> StartVerifyAsync(StartVerifyRequest request, CancellationToken cancellationToken) =>
        new() { Job = await ToMessageAsync(await starter.StartVerifyAsync(request, cancellationToken), cancellationToken) };

    public async ValueTask<ListJobsResponse> ListJobsAsync(ListJobsRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var size = Paging.SizeOf(request.PageSize);
        Id16? vm = request.Vm.Length == 0 ? null : await references.FindMachineIdAsync(request.Vm, cancellationToken);
        var before = Paging.FromToken(request.PageToken, 1) is [var number] ? ParseNumber(number) : (long?)null;
        var rows = await catalog.Jobs.ListAsync(vm, request.RunningOnly, before, size + 1, cancellationToken);
        var response = new ListJobsResponse();
        foreach (var row in rows.Take(size))
        {
            response.Jobs.Add(await ToMessageAsync(row, cancellationToken));
        }
        response.NextPageToken = rows.Count > size ? Paging.ToToken(ToText(rows[size - 1].Number)) : "";
        return response;
    }

    public async ValueTask<GetJobResponse> GetJobAsync(GetJobRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return new GetJobResponse { Job = await ToMessageAsync(await references.FindJobAsync(request.JobId, cancellationToken), cancellationToken) };
    }

    public async IAsyncEnumerable<WatchJobResponse> WatchJobAsync(WatchJobRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var job = await references.FindJobAsync(request.JobId, cancellationToken);
        await foreach (var row in jobs.WatchAsync(job.JobId, cancellationToken))
        {
            yield return new WatchJobResponse { Job = await ToMessageAsync(row, cancellationToken) };
        }
    }

    public async ValueTask<CancelJobResponse> CancelJobAsync(CancelJobRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var job = await references.FindJobAsync(request.JobId, cancellationToken);
        return new CancelJobResponse { Job = await ToMessageAsync(await jobs.CancelAsync(job.JobId, cancellationToken), cancellationToken) };
    }

    public async ValueTask<GetJobLogResponse> GetJobLogAsync(GetJobLogRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var job = await references.FindJobAsync(request.JobId, cancellationToken);
        var response = new GetJobLogResponse();
        response.Lines.Add((await catalog.Jobs.ReadLogAsync(job.Number, cancellationToken))
            .Select(static line => new LogLine { Time = WireText.ToTimestamp(line.TimeMs), Text = line.Text }));
        return response;
    }

    private async ValueTask<VirtualMachine> ToMessageAsync(MachineRow row, CancellationToken cancellationToken)
    {
        var (count, newestMs) = await catalog.Points.SummariseAsync(row.VmId, cancellationToken);
        var machine = AdminMessages.ToMessage(row, count, newestMs);
        machine.Retention = await outlook.DescribeMachineAsync(row.VmId, cancellationToken);
        machine.TrackingAlert = await alerts.IsAlertedAsync(row.VmId, cancellationToken);
        machine.FlaggedRuns = (uint)(await catalog.Runs.ListAbnormalAsync(row.VmId, cancellationToken)).Count;
        return machine;
    }

    private async ValueTask<Job> ToMessageAsync(JobRow stored, CancellationToken cancellationToken)
    {
        var row = jobs.Newest(stored);
        var point = row is { Kind: JobKind.Backup, State: JobPhase.Succeeded } ? await catalog.Points.FindAsync(row.PointId, cancellationToken) : null;
        return AdminMessages.ToMessage(row, point);
    }

    private static string ToText(long number) => number.ToString(CultureInfo.InvariantCulture);

    private static long ParseNumber(string text) =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : throw Paging.Invalid();
}

using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Controller.Collection;
using VirtBackup.Controller.Control;
using VirtBackup.Controller.Scrubbing;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using RetentionService = VirtBackup.Controller.Retention.RetentionService;

namespace VirtBackup.Controller.Admin;

/// <summary>Makes jobs from operators' requests. Safe for concurrent use.</summary>
public sealed class JobStarter(
    References references, CatalogDatabase catalog, JobService jobs, VerifyService verifications, RetentionService retention, CollectionService collections, ScrubService scrubs,
    IEntropy entropy, TimeProvider time)
{
    private const int ExcludedDisksMax = 1024;
    private const int PathCharsMax = 4096;
    private const int NetworksMax = 64;

    // They travel in the list of assignments.
    private const int RestoreOptionsBytesMax = 16 << 10;

    public async ValueTask<JobRow> StartBackupAsync(StartBackupRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var machine = await FindPresentAsync(request.Vm, cancellationToken);
        return await CreateAsync(
            New(JobKind.Backup, machine.Agent, machine.VmId, machine.Name, Id16.Create(entropy), ToBytes(request.Options), request.RequestId), cancellationToken);
    }

    public async ValueTask<JobRow> StartBackupPlanAsync(StartBackupPlanRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var machine = await FindPresentAsync(request.Vm, cancellationToken);
        return await CreateAsync(New(JobKind.BackupPlan, machine.Agent, machine.VmId, machine.Name, Id16.Empty, ToBytes(request.Options), ""), cancellationToken);
    }

    public async ValueTask<JobRow> StartRestoreAsync(StartRestoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var (point, agent) = await FindTargetAsync(request.Point, request.Agent, cancellationToken);
        return await CreateAsync(
            New(JobKind.Restore, agent, point.VmId, point.VmName, point.PointId, ToBytes(request.Options), request.RequestId), cancellationToken);
    }

    public async ValueTask<JobRow> StartRestoreCheckAsync(StartRestoreCheckRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var (point, agent) = await FindTargetAsync(request.Point, request.Agent, cancellationToken);
        return await CreateAsync(New(JobKind.RestoreCheck, agent, point.VmId, point.VmName, point.PointId, ToBytes(request.Options), ""), cancellationToken);
    }

    public async ValueTask<JobRow> StartVerifyAsync(StartVerifyRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var point = request.Point.Length == 0 ? null : await references.FindPointAsync(request.Point, cancellationToken);
        var job = await CreateAsync(
            New(JobKind.Verify, "", point?.VmId ?? Id16.Empty, point?.VmName ?? "", point?.PointId ?? Id16.Empty, request.ToByteArray(), ""), cancellationToken);
        await verifications.StartAsync(job, cancellationToken);
        return job;
    }

    public async ValueTask<JobRow> StartRetentionAsync(StartRetentionRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var vmId = request.Vm.Length == 0 ? Id16.Empty : await references.FindMachineIdAsync(request.Vm, cancellationToken);
        var name = vmId.IsEmpty ? "" : await references.NameMachineAsync(vmId, cancellationToken);
        var job = await CreateAsync(New(JobKind.Retention, "", vmId, name, Id16.Empty, request.ToByteArray(), ""), cancellationToken);
        await retention.StartAsync(job, cancellationToken);
        return job;
    }

    public async ValueTask<JobRow> StartCollectionAsync(StartCollectionRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var job = await CreateAsync(New(JobKind.Collection, "", Id16.Empty, "", Id16.Empty, request.ToByteArray(), ""), cancellationToken);
        await collections.StartAsync(job, cancellationToken);
        return job;
    }

    public async ValueTask<JobRow> StartScrubAsync(StartScrubRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var job = await CreateAsync(New(JobKind.Scrub, "", Id16.Empty, "", Id16.Empty, request.ToByteArray(), ""), cancellationToken);
        await scrubs.StartAsync(job, cancellationToken);
        return job;
    }

    private ValueTask<JobRow> CreateAsync(JobRow job, CancellationToken cancellationToken) => jobs.CreateAsync(job, cancellationToken);

    private JobRow New(JobKind kind, string agent, Id16 vmId, string vmName, Id16 pointId, byte[] options, string requestId) => new()
    {
        JobId = Id16.Create(entropy),
        RequestId = WireText.ToRequestId(requestId),
        Kind = kind,
        Agent = agent,
        VmId = vmId,
        VmName = vmName,
        PointId = pointId,
        Options = options,
        CreatedMs = time.NowMs(),
    };

    private async ValueTask<MachineRow> FindPresentAsync(string reference, CancellationToken cancellationToken)
    {
        var machine = await references.FindPresentMachineAsync(reference, cancellationToken);
        await references.RequireAgentAsync(machine.Agent, cancellationToken);
        return machine;
    }

    private async ValueTask<(PointRow Point, string Agent)> FindTargetAsync(string pointReference, string agentName, CancellationToken cancellationToken)
    {
        var point = await references.FindPointAsync(pointReference, cancellationToken);
        if (point.Forgotten)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The recovery point {point.PointId} is forgotten: undo that first.");
        }
        References.RequireUnsealed(point);
        var agent = agentName.Length > 0 ? agentName : (await catalog.Machines.FindAsync(point.VmId, cancellationToken))?.Agent ?? point.Agent;
        if (agent.Length == 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The virtual machine '{point.VmName}' was never on a host here: say which agent restores it.");
        }
        await references.RequireAgentAsync(agent, cancellationToken);
        return (point, agent);
    }

    private static byte[] ToBytes(BackupOptions? options)
    {
        options ??= new BackupOptions();
        if (options.GroupRunId.Length > 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, "A machine is not backed up with its group by itself: start the group's backup.");
        }
        if (options.ExcludedDisks.Count > ExcludedDisksMax || options.ChangedExtents.Count > ExcludedDisksMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"Options name at most {ExcludedDisksMax} disks.");
        }
        return options.CalculateSize() <= JobMessages.OptionsBytesMax
            ? options.ToByteArray()
            : throw new FaultException(FaultReason.InvalidArgument, $"A job's options have at most {JobMessages.OptionsBytesMax} bytes: give fewer changed extents.");
    }

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: something is longer, or more, than a restore can ask for.</exception>
    internal static byte[] ToBytes(RestoreOptions? options)
    {
        options ??= new RestoreOptions();
        _ = WireText.Bounded(options.Folder, PathCharsMax, "folder");
        _ = WireText.Bounded(options.Name, 255, "name");
        _ = WireText.Bounded(options.Format, 32, "format");
        _ = WireText.Bounded(options.Bus, 32, "bus");
        if (options.OnlyDisks.Count > ExcludedDisksMax || options.Disks.Count > ExcludedDisksMax || options.Networks.Count > NetworksMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A restore's options name at most {ExcludedDisksMax} disks and {NetworksMax} networks.");
        }
        foreach (var text in options.OnlyDisks.Concat(options.Disks.SelectMany(disk => new[] { disk.Name, disk.Format, disk.Bus })).Concat(options.Networks.SelectMany(network => new[] { network.From, network.To })))
        {
            _ = WireText.Bounded(text, 255, "name");
        }
        if (options.CalculateSize() > RestoreOptionsBytesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A restore's options have at most {RestoreOptionsBytesMax} bytes: choose for fewer disks one by one.");
        }
        if (options.Placement == RestorePlacement.New)
        {
            // The same, and older agents know it.
            options = new RestoreOptions(options) { Placement = RestorePlacement.Unspecified };
        }
        return options.ToByteArray();
    }
}

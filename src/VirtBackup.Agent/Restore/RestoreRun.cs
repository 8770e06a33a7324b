using System.Text.Json;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Records;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Restore;

/// <summary>One restore: open the point → check this host → create → write proven chunks → define and start.</summary>
public sealed class RestoreRun(
    BackupContext context, IReadOnlyList<IHypervisor> hypervisors, string jobId, ulong attempt, Id16 machine, Id16 point, RestoreOptions options, RunProgress progress)
{
    /// <exception cref="FaultException">Nothing was left behind.</exception>
    public async Task<RestoreResult> RunAsync(CancellationToken cancellationToken)
    {
        progress.Enter("opening");
        using var stored = await StoredPoint.OpenAsync(context, jobId, attempt, machine, point, cancellationToken);
        var (hypervisor, request) = await PrepareAsync(stored, cancellationToken);
        var blocked = (await hypervisor.CheckRestoreAsync(request, cancellationToken)).Where(finding => finding.Severity == FindingSeverity.Blocks).ToArray();
        if (blocked.Length > 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"Recovery point {point} cannot be restored here: {string.Join(" ", blocked.Select(finding => finding.Message))}");
        }
        progress.AddTotal(request.Disks.Sum(disk => disk.DataBytes));
        progress.Enter("creating disks");
        await using var restore = await hypervisor.BeginRestoreAsync(request, cancellationToken);
        progress.Enter("writing");
        var source = new RestoreSource(context.Store, jobId, attempt, point, stored.ChunkKeys, stored.VmKeys, context.Tools.Time, context.Tools.Entropy, context.Tools.Workers);
        foreach (var target in restore.Disks)
        {
            var stream = stored.Manifest.Head.Streams.Single(candidate => candidate.Id == target.Disk.Id);
            await new DiskRestore(source, stream.Id, ReaderOf(stream), target, stream.Geometry.Shape, progress).RunAsync(cancellationToken);
        }
        progress.Enter(options.Start ? "starting the machine" : "completing");
        // What is started now inherits the priority of whoever starts it.
        using var urgent = context.Tools.BeginUrgent?.Invoke();
        var restored = await restore.CompleteAsync(cancellationToken);
        var result = new RestoreResult { VmId = restored.Id.ToString(), Name = restored.Name, Running = restored.Running, BytesWritten = (ulong)progress.BytesDone };
        result.Details.AddRange(restored.Details.Select(detail => new NamedValue { Name = detail.Key, Value = detail.Value }));
        return result;
    }

    /// <summary>Compares the stored machine with this host; nothing is written.</summary>
    public async Task<CheckRestoreResult> CheckAsync(CancellationToken cancellationToken)
    {
        progress.Enter("checking");
        using var stored = await StoredPoint.OpenAsync(context, jobId, attempt, machine, point, cancellationToken);
        var (hypervisor, request) = await PrepareAsync(stored, cancellationToken);
        var result = new CheckRestoreResult();
        foreach (var finding in await hypervisor.CheckRestoreAsync(request, cancellationToken))
        {
            var severity = finding.Severity switch
            {
                FindingSeverity.Fits => Protocol.Common.V1.RestoreFinding.Types.Severity.Fits,
                FindingSeverity.Adapts => Protocol.Common.V1.RestoreFinding.Types.Severity.Adapts,
                _ => Protocol.Common.V1.RestoreFinding.Types.Severity.Blocks,
            };
            result.Findings.Add(new Protocol.Common.V1.RestoreFinding { Item = finding.Item, Severity = severity, Message = finding.Message });
        }
        return result;
    }

    private MapReader ReaderOf(ManifestStream stream) =>
        new(new NodeSource(context.Store, jobId, attempt, point, context.Tools.Time, context.Tools.Entropy), stream.Geometry, stream.Root);

    private async Task<(IHypervisor Hypervisor, RestoreRequest Request)> PrepareAsync(StoredPoint stored, CancellationToken cancellationToken)
    {
        var body = stored.Body;
        var hypervisor = hypervisors.FirstOrDefault(candidate => candidate.Kind == body.HypervisorKind)
            ?? throw new FaultException(FaultReason.Unsupported, $"Recovery point {point} was made on {body.HypervisorKind}; this agent serves {string.Join(", ", hypervisors.Select(candidate => candidate.Kind))}. Choose another agent.");
        var disks = new List<RestoreDisk>();
        foreach (var stream in stored.Manifest.Head.Streams.Where(stream => stream.Kind == StreamKind.Disk))
        {
            var described = body.Streams.FirstOrDefault(candidate => Id16.Parse(candidate.Id) == stream.Id)
                ?? throw FaultException.Corrupt($"Recovery point {point} does not describe its stream {stream.Id}.");
            var format = options.Format.Length > 0 ? options.Format : described.Format ?? "qcow2";
            disks.Add(new RestoreDisk(stream.Id, described.Name, stream.Geometry.StreamLength, format, await CountDataAsync(stream, cancellationToken)));
        }
        var configuration = new MachineConfiguration(
            body.VmName, body.Machine ?? JsonSerializer.SerializeToElement(new { }), body.Native?.Kind ?? "none", body.Native?.Content ?? []);
        var request = new RestoreRequest(machine, point, body.HypervisorKind, configuration, disks, options.Folder, options.Name.Length > 0 ? options.Name : body.VmName)
        {
            KeepIdentity = options.KeepIdentity,
            Start = options.Start,
            Preallocation = options.Preallocation switch
            {
                Preallocation.Metadata => DiskPreallocation.Metadata,
                Preallocation.Full => DiskPreallocation.Full,
                _ => DiskPreallocation.None,
            },
        };
        return (hypervisor, request);
    }

    private async Task<long> CountDataAsync(ManifestStream stream, CancellationToken cancellationToken)
    {
        long bytes = 0;
        await foreach (var (_, leaf) in ReaderOf(stream).ReadLeavesAsync(cancellationToken))
        {
            for (var i = 0; i < leaf.Count; i++)
            {
                bytes += leaf.IdAt(i).IsZero ? 0 : leaf.LengthAt(i);
            }
        }
        return bytes;
    }
}

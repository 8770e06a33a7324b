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
    private readonly Dictionary<Id16, LeafSample> _samples = [];

    /// <exception cref="FaultException">Nothing was left behind.</exception>
    public async Task<RestoreResult> RunAsync(CancellationToken cancellationToken)
    {
        var begun = context.Tools.Time.GetTimestamp();
        progress.Enter("opening");
        using var stored = await StoredPoint.OpenAsync(context, jobId, attempt, machine, point, cancellationToken);
        var (hypervisor, request) = await PrepareAsync(stored, cancellationToken);
        var blocked = (await hypervisor.CheckRestoreAsync(request, cancellationToken)).Where(finding => finding.Severity == FindingSeverity.Blocks).ToArray();
        if (blocked.Length > 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"Recovery point {point} cannot be restored here: {string.Join(" ", blocked.Select(finding => finding.Message))}");
        }
        var source = SourceOf(stored);
        await SurveyAsync(hypervisor, request, stored, source, cancellationToken);
        progress.AddTotal(request.Disks.Sum(disk => disk.DataBytes));
        progress.Enter("creating disks");
        await using var restore = await hypervisor.BeginRestoreAsync(request, cancellationToken);
        progress.Enter("writing");
        foreach (var target in restore.Disks)
        {
            var stream = stored.Manifest.Head.Streams.Single(candidate => candidate.Id == target.Disk.Id);
            await new DiskRestore(source, stream.Id, ReaderOf(stream).ReadLeavesAsync(cancellationToken), target, stream.Geometry.Shape, progress).RunAsync(cancellationToken);
        }
        progress.Enter(options.Start ? "starting the machine" : "completing");
        var restored = await restore.CompleteAsync(cancellationToken);
        var result = new RestoreResult { VmId = restored.Id.ToString(), Name = restored.Name, Running = restored.Running, BytesWritten = (ulong)progress.BytesDone };
        result.ElapsedSeconds = context.Tools.Time.GetElapsedTime(begun).TotalSeconds;
        result.Details.AddRange(restored.Details.Select(detail => new NamedValue { Name = detail.Key, Value = detail.Value }));
        return result;
    }

    /// <summary>Compares the stored machine with this host, and measures the path to it; nothing is left there.</summary>
    public async Task<CheckRestoreResult> CheckAsync(CancellationToken cancellationToken)
    {
        progress.Enter("checking");
        using var stored = await StoredPoint.OpenAsync(context, jobId, attempt, machine, point, cancellationToken);
        var (hypervisor, request) = await PrepareAsync(stored, cancellationToken);
        var result = new CheckRestoreResult();
        foreach (var finding in RestorePlanItems.Complete(await hypervisor.CheckRestoreAsync(request, cancellationToken)))
        {
            var severity = finding.Severity switch
            {
                FindingSeverity.Fits => Protocol.Common.V1.RestoreFinding.Types.Severity.Fits,
                FindingSeverity.Adapts => Protocol.Common.V1.RestoreFinding.Types.Severity.Adapts,
                FindingSeverity.Unknown => Protocol.Common.V1.RestoreFinding.Types.Severity.Unknown,
                _ => Protocol.Common.V1.RestoreFinding.Types.Severity.Blocks,
            };
            result.Findings.Add(new Protocol.Common.V1.RestoreFinding { Item = finding.Item, Severity = severity, Message = finding.Message });
        }
        if (result.Findings.All(static finding => finding.Severity != Protocol.Common.V1.RestoreFinding.Types.Severity.Blocks))
        {
            await SurveyAsync(hypervisor, request, stored, SourceOf(stored), cancellationToken);
        }
        return result;
    }

    private RestoreSource SourceOf(StoredPoint stored) =>
        new(context.Store, jobId, attempt, point, stored.ChunkKeys, stored.VmKeys, context.Tools.Time, context.Tools.Entropy, context.Tools.Workers);

    /// <summary>Tells what the time depends on, before the first byte is written.</summary>
    private async Task SurveyAsync(IHypervisor hypervisor, RestoreRequest request, StoredPoint stored, RestoreSource source, CancellationToken cancellationToken)
    {
        progress.Enter("measuring");
        var target = await hypervisor.FindTargetAsync(request, cancellationToken);
        var disks = stored.Manifest.Head.Streams.Where(stream => _samples.ContainsKey(stream.Id) && request.Disks.Any(disk => disk.Id == stream.Id))
            .Select(stream => (stream.Id, request.Disks.Single(disk => disk.Id == stream.Id), stream.Geometry.Shape, _samples[stream.Id])).ToList();
        var sampled = options.SkipSample || target is null ? default : await new PathSample(source, target).MeasureAsync(disks, cancellationToken);
        progress.Tell(new RestoreSurvey
        {
            Path = RestorePath.NameOf(target, request),
            DataBytes = (ulong)request.Disks.Sum(disk => disk.DataBytes),
            SampleBytes = (ulong)sampled.Bytes,
            SampleWireBytes = (ulong)sampled.WireBytes,
            SampleSeconds = sampled.Seconds,
        });
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
        var sample = _samples[stream.Id] = new LeafSample(PathSample.LeavesMax, context.Tools.Entropy);
        await foreach (var (index, leaf) in ReaderOf(stream).ReadLeavesAsync(cancellationToken))
        {
            sample.Offer(index, leaf);
            for (var i = 0; i < leaf.Count; i++)
            {
                bytes += leaf.IdAt(i).IsZero ? 0 : leaf.LengthAt(i);
            }
        }
        return bytes;
    }
}

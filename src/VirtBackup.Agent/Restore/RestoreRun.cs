using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Records;
using VirtBackup.Agent.Restore.InPlace;
using VirtBackup.Agent.Restore.Starting;
using VirtBackup.Agent.State;
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
    private const int DifferencesMax = 256;

    private readonly Dictionary<Id16, LeafSample> _samples = [];

    /// <summary>How the machine is started that waits for others; null: it starts when its disks are whole.</summary>
    public OrderedStart? Start { get; init; }

    /// <exception cref="FaultException">Nothing was left behind; disks that were restored in place may be half restored, and are marked.</exception>
    public async Task<RestoreResult> RunAsync(CancellationToken cancellationToken)
    {
        // However it ends: what its start took of the host is given back.
        using var start = Start;
        var begun = context.Tools.Time.GetTimestamp();
        Start?.Require();
        progress.Enter("opening");
        using var stored = await StoredPoint.OpenAsync(context, jobId, attempt, machine, point, cancellationToken);
        var source = SourceOf(stored);
        var (hypervisor, request) = await PrepareAsync(stored, source, cancellationToken);
        var blocked = (await hypervisor.CheckRestoreAsync(request, cancellationToken)).Where(finding => finding.Severity == FindingSeverity.Blocks).ToArray();
        if (blocked.Length > 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"Recovery point {point} cannot be restored here: {string.Join(" ", blocked.Select(finding => finding.Message))}");
        }
        await SurveyAsync(hypervisor, request, stored, source, cancellationToken);
        var counts = new ComparisonCounts();
        var recreated = await RecreateAsync(hypervisor, request, stored, source, counts, cancellationToken);
        var result = ResultOf(recreated, request, counts);
        result.ElapsedSeconds = context.Tools.Time.GetElapsedTime(begun, Start?.Restored ?? context.Tools.Time.GetTimestamp()).TotalSeconds;
        result.ReadySeconds = Start is null ? 0 : await Start.FinishAsync(recreated, cancellationToken);
        return result;
    }

    private async Task<RestoredMachine> RecreateAsync(
        IHypervisor hypervisor, RestoreRequest request, StoredPoint stored, RestoreSource source, ComparisonCounts counts, CancellationToken cancellationToken)
    {
        progress.AddTotal(DataBytesOf(request));
        progress.Enter(request.Placement == Hypervisors.RestorePlacement.InPlace ? "opening disks" : "creating disks");
        using var note = new RestoreNote(context.RestoreNotes, request.Folder);
        await using var restore = await hypervisor.BeginRestoreAsync(request, cancellationToken);
        progress.Enter("writing");
        foreach (var target in restore.Disks)
        {
            var stream = stored.Manifest.Head.Streams.Single(candidate => candidate.Id == target.Disk.Id);
            var plan = target is IExistingDisk existing ? await CompareAsync(stored, stream, existing, counts, cancellationToken) : ReaderOf(stream).PlanAsync;
            await new DiskRestore(source, stream.Id, plan, target, stream.Geometry.Shape, progress).RunAsync(cancellationToken);
        }
        foreach (var target in restore.State)
        {
            var stream = stored.Manifest.Head.Streams.Single(candidate => candidate.Id == target.Disk.Id);
            await new DiskRestore(source, stream.Id, ReaderOf(stream).PlanAsync, target, stream.Geometry.Shape, progress).RunAsync(cancellationToken);
        }
        progress.Enter(request is { Start: true, StartGate: null } ? "starting the machine" : "completing");
        await RememberAsync(stored, request, cancellationToken);
        // What is started now inherits the priority of whoever starts it.
        using var urgent = Start is null ? context.Tools.BeginUrgent?.Invoke() : null;
        return await restore.CompleteAsync(cancellationToken);
    }

    // Before the driver vouches for the disks: without this, it would vouch for maps that nobody knows.
    private async Task RememberAsync(StoredPoint stored, RestoreRequest request, CancellationToken cancellationToken)
    {
        if (context.Restored is { } restored && !request.DisksOnly && !request.Start && (request.Adopt || request.Placement == Hypervisors.RestorePlacement.InPlace))
        {
            BaseDisk[] disks = [.. stored.Manifest.Head.Streams.Where(stream => request.Disks.Any(disk => disk.Id == stream.Id))
                .Select(stream => new BaseDisk(stream.Id, stream.Geometry.StreamLength, stream.Geometry.Shape, stream.Root))];
            await restored.SaveAsync(machine, [new BaseRecord(point, Id32.Zero, disks, [])], cancellationToken);
        }
    }

    /// <summary>Compares the stored machine with this host, and measures the path to it; nothing is left there.</summary>
    public async Task<CheckRestoreResult> CheckAsync(CancellationToken cancellationToken)
    {
        progress.Enter("checking");
        using var stored = await StoredPoint.OpenAsync(context, jobId, attempt, machine, point, cancellationToken);
        var (hypervisor, request) = await PrepareAsync(stored, null, cancellationToken);
        var result = new CheckRestoreResult();
        foreach (var finding in RestorePlanItems.Complete([.. await hypervisor.CheckRestoreAsync(request, cancellationToken), .. TellOfState(stored, request)]))
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

    private static IEnumerable<Hypervisors.RestoreFinding> TellOfState(StoredPoint stored, RestoreRequest request)
    {
        if (request is { State: null, DisksOnly: false } && stored.Manifest.Head.Streams.Any(stream => stream.Kind == StreamKind.RamState))
        {
            yield return new Hypervisors.RestoreFinding("state", FindingSeverity.Adapts, "The recovery point holds the machine's running state, which was not asked for: the machine boots. With '--with-state' it goes on from there.");
        }
    }

    private static long DataBytesOf(RestoreRequest request) =>
        request.Disks.Sum(disk => disk.DataBytes) + (request.State is { } state ? state.Memory.DataBytes + state.Devices.DataBytes : 0);

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
            // Where the start waits for others, it is not in the time.
            Path = RestorePath.NameOf(target, request.StartGate is null ? request : request with { Start = false }),
            DataBytes = (ulong)DataBytesOf(request),
            SampleBytes = (ulong)sampled.Bytes,
            SampleWireBytes = (ulong)sampled.WireBytes,
            SampleSeconds = sampled.Seconds,
        });
    }

    private async Task<(IHypervisor Hypervisor, RestoreRequest Request)> PrepareAsync(StoredPoint stored, RestoreSource? source, CancellationToken cancellationToken)
    {
        var (hypervisor, request) = await new RestoreRequests(stored, options, CountDataAsync).MakeAsync(hypervisors, cancellationToken);
        request = request with { StartGate = Start is null ? null : Start.PassAsync };
        return (hypervisor, request.DisksOnly ? request : request with { Contents = await new StoredContents(stored, ReaderOf).ReadAsync(source, cancellationToken) });
    }

    private MapReader ReaderOf(ManifestStream stream) => new(NodesOf(point), stream.Geometry, stream.Root);

    private NodeSource NodesOf(Id16 source) => new(context.Store, jobId, attempt, source, context.Tools.Time, context.Tools.Entropy);

    private async Task<Func<CancellationToken, IAsyncEnumerable<PlannedLeaf>>> CompareAsync(
        StoredPoint stored, ManifestStream stream, IExistingDisk disk, ComparisonCounts counts, CancellationToken cancellationToken)
    {
        var head = stored.Manifest.Head;
        var keys = stored.ChunkKeys.Find(head.Scope, head.IdGeneration)
            ?? throw FaultException.Corrupt($"The grant for recovery point {point} lacks the key that names its chunks.");
        var known = await new KnownDisk(context, machine, point, NodesOf, progress).FindAsync(disk, stream, cancellationToken);
        var comparison = new DiskComparison(disk, keys, stream.Geometry.Shape.ChunkBytesMax, context.Tools.Workers, counts, progress);
        return new InPlacePlan(NodesOf(point), stream.Geometry, stream.Root, known, comparison, counts).ReadAsync;
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

    private RestoreResult ResultOf(RestoredMachine restored, RestoreRequest request, ComparisonCounts counts)
    {
        var inPlace = request.Placement == Hypervisors.RestorePlacement.InPlace;
        var result = new RestoreResult
        {
            VmId = restored.Id.ToString(),
            Name = restored.Name,
            Running = restored.Running,
            BytesWritten = (ulong)(inPlace ? counts.Written : progress.BytesDone),
            BytesCompared = (ulong)counts.Compared,
            BytesSkipped = (ulong)counts.Skipped,
        };
        result.Details.AddRange(restored.Details.Select(detail => new NamedValue { Name = detail.Key, Value = detail.Value }));
        if (restored.Description is { } recreated)
        {
            var captured = restored.CapturedDescription ?? request.Configuration.Neutral;
            var differences = request.DisksOnly
                ? DescriptionDifferences.Compare(DisksOf(captured, request), DisksOf(recreated, request)) : DescriptionDifferences.Compare(captured, recreated);
            result.DifferencesKnown = true;
            result.DifferencesTotal = (ulong)differences.Count;
            result.Differences.AddRange(differences.Take(DifferencesMax));
        }
        return result;
    }

    // Without the machine, and without the disks that nobody asked for.
    private static JsonElement DisksOf(JsonElement description, RestoreRequest request)
    {
        var chosen = request.Disks.Select(disk => disk.Name).ToHashSet(StringComparer.Ordinal);
        var disks = description.ValueKind == JsonValueKind.Object && description.TryGetProperty("disks", out var list) && list.ValueKind == JsonValueKind.Array
            ? list.EnumerateArray().Where(disk => disk.ValueKind == JsonValueKind.Object && disk.TryGetProperty("name", out var name) && name.ValueKind == JsonValueKind.String && chosen.Contains(name.GetString()!))
            : [];
        return JsonSerializer.SerializeToElement(new JsonObject { ["disks"] = new JsonArray([.. disks.Select(disk => JsonNode.Parse(disk.GetRawText()))]) });
    }
}

using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>What a mirror reached for one disk.</summary>
internal readonly record struct MirrorProgress(long Total, long Done);

/// <summary>
/// Copies the disks of a running machine by one mirror job each, and lets the machine change over to all of them while it stands still: the
/// journal knows which images are the machine's before the guest writes again.
/// </summary>
internal sealed class MirrorRun(QemuDriverContext context, QemuMachine machine, StorageMoveRequest request, MoveJournal journal)
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan PauseLimit = TimeSpan.FromSeconds(20);
    private readonly PatientMonitor monitor = new(context, machine);
    private readonly Dictionary<string, MirrorProgress> reached = new(StringComparer.Ordinal);
    private long copied = -1;

    /// <summary>By job.</summary>
    public IReadOnlyDictionary<string, MirrorProgress> Reached => reached;

    /// <summary>Null: the guest did not run.</summary>
    public TimeSpan? Interruption { get; private set; }

    /// <summary>Opens the new images, which exist and are empty, and starts to copy.</summary>
    public async Task BeginAsync(CancellationToken cancellationToken)
    {
        await using var qmp = await monitor.OpenAsync(cancellationToken);
        var caches = await ReadCachesAsync(qmp, cancellationToken);
        foreach (var disk in journal.Disks)
        {
            var file = new JsonObject { ["driver"] = "file", ["filename"] = disk.NewPath };
            if (caches.TryGetValue(disk.Node, out var cache))
            {
                file["cache"] = cache.DeepClone();
            }
            var node = new JsonObject { ["driver"] = disk.NewFormat, ["node-name"] = disk.Job, ["discard"] = "unmap", ["file"] = file };
            if (caches.TryGetValue(disk.Node, out cache))
            {
                node["cache"] = cache.DeepClone();
            }
            await qmp.ExecuteAsync("blockdev-add", node, cancellationToken);
        }
        foreach (var disk in journal.Disks)
        {
            await qmp.ExecuteAsync("blockdev-mirror", new JsonObject
            {
                ["job-id"] = disk.Job, ["device"] = disk.Node, ["target"] = disk.Job, ["sync"] = "full",
                // What the guest writes is written to both places at once: however busy it is, the copy comes to an end.
                ["copy-mode"] = "write-blocking", ["on-source-error"] = "report", ["on-target-error"] = "report",
                ["speed"] = request.BytesPerSecondMax > 0 ? Math.Max(1, request.BytesPerSecondMax / journal.Disks.Count) : 0, ["auto-finalize"] = true, ["auto-dismiss"] = false,
            }, cancellationToken);
        }
    }

    /// <summary>Waits until both places of all disks are equal and stay so.</summary>
    /// <exception cref="FaultException">A copy failed; the guest noticed nothing.</exception>
    public async Task WaitAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var ready = await LookAsync(cancellationToken);
            Tell("copying");
            if (ready)
            {
                return;
            }
            await Task.Delay(PollInterval, context.Time, cancellationToken);
        }
    }

    private async Task<bool> LookAsync(CancellationToken cancellationToken)
    {
        await using var qmp = await monitor.OpenAsync(cancellationToken);
        var jobs = (await qmp.ExecuteAsync("query-jobs", null, cancellationToken)).Items().ToDictionary(static job => job.Text("id"), static job => job);
        var ready = true;
        foreach (var disk in journal.Disks)
        {
            if (!jobs.TryGetValue(disk.Job, out var job))
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"The copying of disk {disk.Name} was ended by somebody else. The machine is as it was; move it again.");
            }
            if (job.Text("status") is "concluded" or "aborting")
            {
                throw Failed(disk, job.FindText("error") ?? "it ended");
            }
            reached[disk.Job] = new MirrorProgress(job.Number("total-progress"), job.Number("current-progress"));
            ready &= job.Text("status") == "ready";
        }
        return ready;
    }

    private void Tell(string phase)
    {
        var done = reached.Values.Sum(static progress => progress.Done);
        if (done != copied)
        {
            copied = done;
            request.Progress(new StorageMoveProgress(phase, reached.Values.Sum(static progress => progress.Total), done));
        }
    }

    /// <summary>
    /// The change-over: stop, carry the dirty bitmaps over, end all jobs, write down what became of them, go on. Not cancellable. When this
    /// fails, the journal or, until it is settled, QEMU itself knows which images are in use.
    /// </summary>
    public async Task PivotAsync(string markFolder)
    {
        await using var qmp = await monitor.OpenAsync(CancellationToken.None);
        var bitmaps = await ReadBitmapsAsync(qmp);
        journal.Enter(MoveStage.Pivoting, [.. journal.Disks.Select(disk => disk with { Bitmaps = [.. bitmaps[disk.Job].Where(static bitmap => bitmap.Recording).Select(static bitmap => bitmap.Name)] })]);
        var running = (await qmp.ExecuteAsync("query-status", null, CancellationToken.None)).Text("status") == "running";
        var marks = new FreezeMarks(markFolder);
        await using var lease = running && context.Options.Guard is { } guard
            ? await guard.ArmAsync(QemuGuestRelease.TargetOf(machine, markFolder), PauseLimit, CancellationToken.None) : null;
        var begun = context.Time.GetTimestamp();
        if (running)
        {
            marks.Set(FreezeMarks.Stopped);
        }
        try
        {
            if (running)
            {
                await qmp.ExecuteAsync("stop", null, CancellationToken.None);
            }
            await CarryAsync(qmp, bitmaps);
            await qmp.ExecuteAllAsync([.. journal.Disks.Select(static disk => MoveDecision.Complete(disk.Job))], context.Options.CommandTimeout, CancellationToken.None);
            foreach (var disk in journal.Disks)
            {
                await MoveDecision.WaitForEndAsync(qmp, disk.Job, CancellationToken.None);
            }
        }
        finally
        {
            // Decides, goes on: on every way out of here.
            await MoveDecision.TakeAsync(qmp, journal, CancellationToken.None);
            if (running)
            {
                await HeldGuest.ContinueAsync(qmp, marks.Folder, context.Time, CancellationToken.None);
                Interruption = context.Time.GetElapsedTime(begun);
            }
        }
        if (lease is not null)
        {
            await lease.DisarmAsync();
        }
        await RequireAllMovedAsync(qmp);
    }

    private async Task RequireAllMovedAsync(QmpClient qmp)
    {
        if (journal.Disks.All(static disk => disk.Moved))
        {
            return;
        }
        var errors = (await qmp.ExecuteAsync("query-jobs", null, CancellationToken.None)).Items().ToDictionary(static job => job.Text("id"), static job => job.FindText("error"));
        var failed = journal.Disks.First(static disk => !disk.Moved);
        throw journal.Stage == MoveStage.Settled
            ? new FaultException(FaultReason.FailedPrecondition,
                $"Only some disks were moved: {string.Join(", ", journal.Disks.Where(static disk => disk.Moved).Select(static disk => disk.Name))}. Disk {failed.Name} stays at {failed.OldPath}, since its copy failed at the last moment ({errors.GetValueOrDefault(failed.Job) ?? "no reason given"}). Nothing is lost; move it again.")
            : Failed(failed, errors.GetValueOrDefault(failed.Job) ?? "the change-over was refused");
    }

    private static FaultException Failed(MovingDisk disk, string reason) => new(
        reason.Contains("No space left", StringComparison.Ordinal) ? FaultReason.DeviceFull : FaultReason.FailedPrecondition,
        $"Disk {disk.Name} could not be copied to {disk.NewPath}: {reason}. The machine runs on with the old images, and nothing is left at the new place.");

    private sealed record CarriedBitmap(string Name, long Granularity, bool Recording, bool Persistent);

    private async Task<Dictionary<string, List<CarriedBitmap>>> ReadBitmapsAsync(QmpClient qmp)
    {
        var nodes = await BlockInventory.ReadNodesAsync(qmp, CancellationToken.None);
        var carried = new Dictionary<string, List<CarriedBitmap>>(StringComparer.Ordinal);
        foreach (var disk in journal.Disks)
        {
            var all = nodes.GetValueOrDefault(disk.Node).Find("dirty-bitmaps") is { } list ? list.Items().ToList() : [];
            // Without a name they are QEMU's own, of jobs.
            carried[disk.Job] = [.. all.Where(static bitmap => bitmap.FindText("name") is { Length: > 0 } && !bitmap.Flag("inconsistent")).Select(bitmap => new CarriedBitmap(
                bitmap.Text("name"), bitmap.Number("granularity"), bitmap.Flag("recording"),
                disk.NewFormat == "qcow2" && (bitmap.Flag("persistent") || bitmap.Text("name").StartsWith(TrackingName.Prefix, StringComparison.Ordinal))))];
        }
        return carried;
    }

    // Disabled until the guest may write again: what the job still copies is no change.
    private async Task CarryAsync(QmpClient qmp, Dictionary<string, List<CarriedBitmap>> bitmaps)
    {
        var actions = new JsonArray();
        foreach (var disk in journal.Disks)
        {
            foreach (var bitmap in bitmaps[disk.Job])
            {
                actions.Add((JsonNode)Action("add", new JsonObject
                {
                    ["node"] = disk.Job, ["name"] = bitmap.Name, ["granularity"] = bitmap.Granularity, ["persistent"] = bitmap.Persistent, ["disabled"] = true,
                }));
                actions.Add((JsonNode)Action("merge", new JsonObject
                {
                    ["node"] = disk.Job, ["target"] = bitmap.Name, ["bitmaps"] = new JsonArray(new JsonObject { ["node"] = disk.Node, ["name"] = bitmap.Name }),
                }));
            }
        }
        if (actions.Count > 0)
        {
            await qmp.ExecuteAsync("transaction", new JsonObject { ["actions"] = actions }, CancellationToken.None);
        }
    }

    private static JsonObject Action(string verb, JsonObject data) => new() { ["type"] = $"block-dirty-bitmap-{verb}", ["data"] = data };

    private static async Task<Dictionary<string, JsonObject>> ReadCachesAsync(QmpClient qmp, CancellationToken cancellationToken)
    {
        var caches = new Dictionary<string, JsonObject>(StringComparer.Ordinal);
        foreach (var (name, node) in await BlockInventory.ReadNodesAsync(qmp, cancellationToken))
        {
            if (node.Find("cache") is { } cache)
            {
                caches[name] = new JsonObject { ["direct"] = cache.Flag("direct"), ["no-flush"] = cache.Flag("no-flush") };
            }
        }
        return caches;
    }
}

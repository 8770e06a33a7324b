using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>
/// Finds out, while the guest stands still, which of its images QEMU uses now, and writes it down. Whoever lets the guest go on does this
/// first, be it the mover, the thaw watchdog or the next start of the agent: from the guest's next write on, only one image of a disk is whole.
/// </summary>
internal static class MoveDecision
{
    // The guest waits: a target that takes longer to get the last bytes is given up.
    private static readonly TimeSpan CompletionLimit = TimeSpan.FromSeconds(10);
    private static readonly HashSet<string> Over = ["concluded", "null", "undefined"];

    /// <summary>Decides the move that a mark folder belongs to; nothing when it belongs to none.</summary>
    public static async Task TakeAsync(QmpClient qmp, string markFolder, CancellationToken cancellationToken)
    {
        var mark = Path.Combine(markFolder, MoveNames.JournalMark);
        if (File.Exists(mark) && MoveJournal.Read(await File.ReadAllTextAsync(mark, cancellationToken)) is { Stage: MoveStage.Pivoting } journal)
        {
            await TakeAsync(qmp, journal, cancellationToken);
        }
    }

    /// <summary>Brings what has begun to change over to its end, and decides. The journal is durable when this returns.</summary>
    public static async Task TakeAsync(QmpClient qmp, MoveJournal journal, CancellationToken cancellationToken)
    {
        var jobs = journal.Disks.Select(static disk => disk.Job).ToHashSet(StringComparer.Ordinal);
        var states = await ReadJobsAsync(qmp, jobs, cancellationToken);
        if (states.Any(static job => job.Value == "ready"))
        {
            // All or none: the rest is as ready as those were. Nobody knows here whether it was told to change over already.
            var moved = await AnyMovedAsync(qmp, journal, cancellationToken);
            await TryAllAsync(qmp, [.. states.Where(static job => job.Value == "ready").Select(job => moved ? Complete(job.Key) : Cancel(job.Key))], cancellationToken);
        }
        foreach (var job in states.Where(static job => !Over.Contains(job.Value)))
        {
            await WaitForEndAsync(qmp, job.Key, cancellationToken);
        }
        await DecideAsync(qmp, journal, cancellationToken);
    }

    public static QmpCommand Complete(string job) => new("job-complete", new JsonObject { ["id"] = job });

    public static QmpCommand Cancel(string job) => new("block-job-cancel", new JsonObject { ["device"] = job, ["force"] = true });

    /// <summary>As <see cref="QmpClient.ExecuteAllAsync"/>, for commands that may be refused.</summary>
    public static async Task TryAllAsync(QmpClient qmp, IReadOnlyList<QmpCommand> commands, CancellationToken cancellationToken)
    {
        try
        {
            await qmp.ExecuteAllAsync(commands, CompletionLimit, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
        {
            // It is ending already: that is waited for.
        }
    }

    /// <summary>Jobs of a move that QEMU knows, with their states.</summary>
    public static async Task<Dictionary<string, string>> ReadJobsAsync(QmpClient qmp, IReadOnlySet<string> ours, CancellationToken cancellationToken)
    {
        var jobs = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var job in (await qmp.ExecuteAsync("query-jobs", null, cancellationToken)).Items())
        {
            if (ours.Contains(job.Text("id")))
            {
                jobs[job.Text("id")] = job.Text("status");
            }
        }
        return jobs;
    }

    /// <summary>Waits until a job has ended; one that does not end in time is cancelled.</summary>
    public static async Task WaitForEndAsync(QmpClient qmp, string job, CancellationToken cancellationToken)
    {
        for (var cancelled = false; ; cancelled = true)
        {
            try
            {
                if (Over.Contains((await ReadJobsAsync(qmp, new HashSet<string> { job }, cancellationToken)).GetValueOrDefault(job, "null")))
                {
                    return;
                }
                await qmp.WaitForEventAsync("JOB_STATUS_CHANGE", data => data.FindText("id") == job && Over.Contains(data.Text("status")), CompletionLimit, cancellationToken);
                return;
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.HypervisorUnavailable && !cancelled)
            {
                await TryAllAsync(qmp, [Cancel(job)], cancellationToken);
            }
        }
    }

    private static async Task<bool> AnyMovedAsync(QmpClient qmp, MoveJournal journal, CancellationToken cancellationToken)
    {
        var used = await ReadUsedNodesAsync(qmp, cancellationToken);
        return journal.Disks.Any(disk => used.Contains(disk.Job));
    }

    private static async Task DecideAsync(QmpClient qmp, MoveJournal journal, CancellationToken cancellationToken)
    {
        var used = await ReadUsedNodesAsync(qmp, cancellationToken);
        var disks = journal.Disks.Select(disk => disk with { Moved = used.Contains(disk.Job) }).ToList();
        await EnableBitmapsAsync(qmp, [.. disks.Where(static disk => disk.Moved)], cancellationToken);
        if (disks.Exists(static disk => disk.Moved))
        {
            journal.Enter(MoveStage.Settled, disks);
        }
        else
        {
            journal.Enter(MoveStage.Copying, disks);
        }
    }

    private static async Task EnableBitmapsAsync(QmpClient qmp, IReadOnlyList<MovingDisk> moved, CancellationToken cancellationToken)
    {
        var nodes = await BlockInventory.ReadNodesAsync(qmp, cancellationToken);
        var bitmaps = new List<BitmapPlace>();
        foreach (var disk in moved)
        {
            // QEMU 7.2 does not survive a transaction that switches on what is not there.
            var there = nodes.GetValueOrDefault(disk.Job).Find("dirty-bitmaps") is { } list ? list.Items().Select(static bitmap => bitmap.FindText("name")).ToHashSet() : [];
            bitmaps.AddRange(disk.Bitmaps.Where(there.Contains).Select(bitmap => new BitmapPlace(disk.Job, bitmap)));
        }
        if (bitmaps.Count == 0)
        {
            return;
        }
        try
        {
            var actions = bitmaps.Select(static bitmap => (JsonNode)new JsonObject { ["type"] = "block-dirty-bitmap-enable", ["data"] = At(bitmap) });
            await qmp.ExecuteAsync("transaction", new JsonObject { ["actions"] = new JsonArray([.. actions]) }, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
        {
            // The guest waits. A bitmap that does not record would hide what it writes: without it, all is read next time.
            await TryAllAsync(qmp, [.. bitmaps.Select(static bitmap => new QmpCommand("block-dirty-bitmap-remove", At(bitmap)))], cancellationToken);
        }
    }

    private static JsonObject At(BitmapPlace bitmap) => new() { ["node"] = bitmap.Node, ["name"] = bitmap.Name };

    private static async Task<HashSet<string>> ReadUsedNodesAsync(QmpClient qmp, CancellationToken cancellationToken) =>
        [.. (await qmp.ExecuteAsync("query-block", null, cancellationToken)).Items().Select(static device => device.Find("inserted")?.FindText("node-name")).OfType<string>()];
}

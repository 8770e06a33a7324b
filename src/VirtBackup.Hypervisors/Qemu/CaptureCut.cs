using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>What may be said of a cut.</summary>
/// <param name="Frozen"><see cref="ICapture.Frozen"/>.</param>
/// <param name="Paused">For how long the guest stood still for its running state; zero without that.</param>
internal sealed record CutOutcome(CaptureConsistency Consistency, string Detail, TimeSpan? Frozen, TimeSpan Paused = default);

/// <summary>
/// Cuts all disks of a machine at one instant: freeze, stop, a copy-before-write filter above every disk, one
/// transaction over all bitmaps, go on, thaw. The stop makes the cut one for raw writers, too, and keeps writes from
/// falling between a filter and its bitmap. While the guest stands still, nothing is done that could be done before or after,
/// and QEMU is told all of it at once.
/// </summary>
internal sealed class CaptureCut(
    QmpClient qmp, QemuMachine machine, CaptureRequest request, QemuOptions options, TimeProvider time, IEntropy entropy, string folder)
{
    private readonly FreezeMarks marks = new(folder);

    /// <summary>Adds fleece nodes and the NBD server: all that may fail before the guest is touched.</summary>
    public async Task PrepareAsync(IReadOnlyList<QemuDisk> disks, CancellationToken cancellationToken)
    {
        try
        {
            var address = new JsonObject { ["type"] = "unix", ["data"] = new JsonObject { ["path"] = SocketPath } };
            await qmp.ExecuteAsync("nbd-server-start", new JsonObject { ["addr"] = address, ["max-connections"] = disks.Count + 1 }, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                $"The machine {machine.Name} cannot be captured while another tool uses the NBD server of its QEMU; end that export or backup first. ({fault.Message})", fault);
        }
        if (!StandsStillToSave)
        {
            await PrepareFleecesAsync(disks, cancellationToken);
        }
    }

    private async Task PrepareFleecesAsync(IReadOnlyList<QemuDisk> disks, CancellationToken cancellationToken)
    {
        for (var i = 0; i < disks.Count; i++)
        {
            await qmp.ExecuteAsync("blockdev-add", new JsonObject
            {
                ["driver"] = "qcow2", ["node-name"] = CaptureNames.Fleece(request.Point, i), ["discard"] = "unmap",
                ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = CaptureFolder.Image(folder, i) },
            }, cancellationToken);
        }
    }

    /// <summary>Called at the cut, while the machine stands still. Brief: the guest waits. Null: there is nothing to be done.</summary>
    public Func<Task>? AtTheCut { get; init; }

    /// <summary>Saves the running state at the same instant; null: it is not captured.</summary>
    public StateSave? State { get; init; }

    /// <summary>Copy what an increment lists, and no more.</summary>
    public bool CopiesListedOnly => options.FleeceListedExtentsOnly && !StandsStillToSave;

    // What writes to fleeces keeps QEMU from giving its disks up at the end of a save.
    private bool StandsStillToSave => State is { IsLive: false };

    /// <summary>Makes what limits copying to changes and what else the caller wants to read; null: copying is not limited so.</summary>
    public async Task<IReadOnlyList<CopyLimit?>> PrepareLimitsAsync(IReadOnlyList<QemuDisk> disks, IReadOnlyList<TrackingBitmap?> bases, CancellationToken cancellationToken)
    {
        var limits = new CopyLimit?[disks.Count];
        for (var i = 0; CopiesListedOnly && i < disks.Count; i++)
        {
            if (bases[i] is not null && request.AlsoReadable.TryGetValue(disks[i].Summary.Id, out var ranges) && ranges.Count > 0)
            {
                limits[i] = new CopyLimit(qmp, CaptureNames.Limit(request.Point, i));
                await limits[i]!.MakeAsync(disks[i].Summary.LengthBytes, SocketPath, ranges, time, cancellationToken);
            }
        }
        return limits;
    }

    /// <summary>Makes the filters, above no device yet: what the guest writes passes them by. One that copies changes only must be made at the cut.</summary>
    public async Task PrepareFiltersAsync(IReadOnlyList<QemuDisk> disks, IReadOnlyList<TrackingBitmap?> bases, CancellationToken cancellationToken)
    {
        if (!StandsStillToSave)
        {
            await MakeFiltersAsync(disks, bases, cancellationToken);
        }
    }

    private async Task MakeFiltersAsync(IReadOnlyList<QemuDisk> disks, IReadOnlyList<TrackingBitmap?> bases, CancellationToken cancellationToken)
    {
        var commands = disks.Select((disk, i) => (Disk: disk, Index: i)).Where(entry => bases[entry.Index] is null)
            .Select(entry => new QmpCommand("blockdev-add", FilterOf(entry.Disk, null, entry.Index))).ToList();
        await qmp.ExecuteAllAsync(commands, options.CommandTimeout, cancellationToken);
    }

    public string SocketPath => Path.Combine(folder, CaptureFolder.SocketName);

    /// <summary>The cut. Not cancellable between stop and go on; every command has a time limit.</summary>
    /// <param name="bases">For each disk, the bitmap that is to limit copying; null copies everything.</param>
    /// <param name="limits">To be used in its stead, with it added.</param>
    public async Task<CutOutcome> CutAsync(
        IReadOnlyList<QemuDisk> disks, IReadOnlyList<TrackingBitmap?> bases, IReadOnlyList<CopyLimit?> limits, bool running, CancellationToken cancellationToken)
    {
        var commands = CommandsOf(disks, bases, limits, running && request.Gate is null && State is null);
        if (request.Gate is not null)
        {
            await request.Gate.ReadyAsync(cancellationToken);
        }
        // Disposed last, and without having been disarmed when the guest could not be let go on. Behind a gate it is known only then whether it runs.
        await using var lease = (running || request.Gate is not null) && options.Guard is { } guard
            ? await guard.ArmAsync(QemuGuestRelease.TargetOf(machine, folder), Quiesce.GuardLimit(request), cancellationToken) : null;
        await using var quiesce = await Quiesce.BeginAsync(State is null ? request : request with { Quiesce = false }, running, Connect(), marks, lease, time, cancellationToken);
        var held = false;
        try
        {
            if (State is not null)
            {
                await StateCutOf(State, disks).RunAsync(commands, lease, cancellationToken);
                held = true;
            }
            else if (request.Gate is { } gate)
            {
                held = await CutTogetherAsync(gate, commands, lease, cancellationToken);
            }
            else
            {
                await CutStoppedAsync(commands, running, lease);
            }
        }
        finally
        {
            await quiesce.ThawAsync();
        }
        if (lease is not null && !marks.Any && !await lease.DisarmAsync())
        {
            quiesce.DenyHeld();
            held = false;
        }
        request.Gate?.Released(held);
        // Nothing in the guest was flushed: its memory holds what it had not written yet.
        return State is null ? new CutOutcome(quiesce.Consistency, quiesce.Detail, quiesce.Frozen) : new CutOutcome(CaptureConsistency.Crash, State.Detail, null, State.Paused);
    }

    private StateCut StateCutOf(StateSave state, IReadOnlyList<QemuDisk> disks) => new(qmp, state, request, options, time, marks)
    {
        AtTheCut = AtTheCut,
        Activate = async () =>
        {
            await StateCut.TakeDisksBackAsync(qmp, disks, request.Point, options.CommandTimeout);
            await PrepareFleecesAsync(disks, CancellationToken.None);
            await MakeFiltersAsync(disks, [.. disks.Select(_ => (TrackingBitmap?)null)], CancellationToken.None);
        },
    };

    private Func<CancellationToken, Task<IGuestAgent>>? Connect() => machine.GuestAgentSocket is { } socket
        ? async token => await GuestAgentClient.ConnectAsync(socket, time, entropy, options.GuestAgentTimeout, token) : null;

    private async Task CutStoppedAsync(IReadOnlyList<QmpCommand> commands, bool running, IFreezeLease? lease)
    {
        if (running)
        {
            marks.Set(FreezeMarks.Stopped);
        }
        var done = false;
        try
        {
            await qmp.ExecuteAllAsync(commands, request.FreezeLimit, CancellationToken.None);
            if (AtTheCut is not null)
            {
                await AtTheCut();
            }
            done = true;
        }
        finally
        {
            if (!done && lease is not null)
            {
                // A monitor that was silent until its limit may be so once more; that is no reason to end this process.
                await lease.RenewAsync(request.FreezeLimit + options.CommandTimeout, CancellationToken.None);
            }
            if (running)
            {
                if (!done || AtTheCut is not null)
                {
                    await qmp.ExecuteAsync("cont", null, CancellationToken.None);
                }
                marks.Remove(FreezeMarks.Stopped);
            }
        }
    }

    /// <returns>Whether the guest stood still all the time.</returns>
    private async Task<bool> CutTogetherAsync(ICutGate gate, IReadOnlyList<QmpCommand> commands, IFreezeLease? lease, CancellationToken cancellationToken)
    {
        // It may have been paused, or continued, while the others were waited for.
        var running = await IsRunningAsync();
        using var hold = new GatedHold(gate, request, time);
        if (running)
        {
            marks.Set(FreezeMarks.Stopped);
        }
        var done = false;
        try
        {
            if (running)
            {
                await qmp.ExecuteAsync("stop", null, CancellationToken.None);
            }
            await hold.FreezeAsync(cancellationToken);
            await qmp.ExecuteAllAsync(commands, request.FreezeLimit, CancellationToken.None);
            if (AtTheCut is not null)
            {
                await AtTheCut();
            }
            await hold.CutAsync(cancellationToken);
            var held = !await IsRunningAsync();
            done = true;
            return held;
        }
        finally
        {
            if (!done && lease is not null)
            {
                await lease.RenewAsync(request.FreezeLimit + options.CommandTimeout, CancellationToken.None);
            }
            if (running)
            {
                await qmp.ExecuteAsync("cont", null, CancellationToken.None);
                marks.Remove(FreezeMarks.Stopped);
            }
        }
    }

    private async Task<bool> IsRunningAsync() => (await qmp.ExecuteAsync("query-status", null, CancellationToken.None)).Text("status") == "running";

    /// <param name="stops">With the stop before them and the going on behind.</param>
    private List<QmpCommand> CommandsOf(IReadOnlyList<QemuDisk> disks, IReadOnlyList<TrackingBitmap?> bases, IReadOnlyList<CopyLimit?> limits, bool stops)
    {
        var commands = new List<QmpCommand>();
        if (stops)
        {
            commands.Add(new QmpCommand("stop"));
        }
        for (var i = 0; i < disks.Count; i++)
        {
            if (bases[i] is { } changed)
            {
                var place = new BitmapPlace(disks[i].Node, changed.Name.ToString());
                if (limits[i] is { } limit)
                {
                    commands.Add(limit.Add(place));
                    place = limit.Place;
                }
                commands.Add(new QmpCommand("blockdev-add", FilterOf(disks[i], place, i)));
            }
            commands.Add(new QmpCommand("qom-set", new JsonObject { ["path"] = disks[i].DevicePath, ["property"] = "drive", ["value"] = CaptureNames.Filter(request.Point, i) }));
        }
        commands.Add(new QmpCommand("transaction", new JsonObject { ["actions"] = BitmapSettlement.CutActions(disks, request.Point) }));
        if (stops && AtTheCut is null)
        {
            commands.Add(new QmpCommand("cont"));
        }
        return commands;
    }

    private JsonObject FilterOf(QemuDisk disk, BitmapPlace? limit, int index)
    {
        var arguments = new JsonObject
        {
            ["driver"] = "copy-before-write", ["node-name"] = CaptureNames.Filter(request.Point, index), ["file"] = disk.Node, ["target"] = CaptureNames.Fleece(request.Point, index),
            ["on-cbw-error"] = "break-snapshot", ["cbw-timeout"] = (long)Math.Ceiling(options.CopyTimeout.TotalSeconds),
        };
        if (limit is { } bitmap)
        {
            arguments["bitmap"] = new JsonObject { ["node"] = bitmap.Node, ["name"] = bitmap.Name };
        }
        return arguments;
    }

    /// <summary>Makes the frozen disks readable over NBD.</summary>
    public async Task ExportAsync(IReadOnlyList<QemuDisk> disks, IReadOnlyList<TrackingBitmap?> bases, CancellationToken cancellationToken)
    {
        for (var i = 0; i < disks.Count; i++)
        {
            var snapshot = CaptureNames.Snapshot(request.Point, i);
            await qmp.ExecuteAsync("blockdev-add", new JsonObject
            {
                ["driver"] = "snapshot-access", ["node-name"] = snapshot, ["file"] = CaptureNames.Filter(request.Point, i),
            }, cancellationToken);
            var name = CaptureNames.Export(request.Point, i);
            var export = new JsonObject { ["type"] = "nbd", ["id"] = name, ["name"] = name, ["node-name"] = snapshot, ["writable"] = false };
            if (bases[i] is { } bitmap)
            {
                export["bitmaps"] = new JsonArray(new JsonObject { ["node"] = disks[i].Node, ["name"] = bitmap.Name.ToString() });
            }
            await qmp.ExecuteAsync("block-export-add", export, cancellationToken);
        }
    }
}

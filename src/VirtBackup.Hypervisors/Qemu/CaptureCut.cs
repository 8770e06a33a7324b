using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// Cuts all disks of a machine at one instant: freeze, stop, a copy-before-write filter above every disk, one
/// transaction over all bitmaps, go on, thaw. The stop makes the cut one for raw writers, too, and keeps writes from
/// falling between a filter and its bitmap.
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
        for (var i = 0; i < disks.Count; i++)
        {
            await qmp.ExecuteAsync("blockdev-add", new JsonObject
            {
                ["driver"] = "qcow2", ["node-name"] = CaptureNames.Fleece(request.Point, i), ["discard"] = "unmap",
                ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = CaptureFolder.Image(folder, i) },
            }, cancellationToken);
        }
    }

    /// <summary>Called at the cut, while the machine stands still. Brief: the guest waits.</summary>
    public Func<Task>? AtTheCut { get; init; }

    /// <summary>Makes what limits copying to changes and what else the caller wants to read; null: copying is not limited so.</summary>
    public async Task<IReadOnlyList<CopyLimit?>> PrepareLimitsAsync(IReadOnlyList<QemuDisk> disks, IReadOnlyList<TrackingBitmap?> bases, CancellationToken cancellationToken)
    {
        var limits = new CopyLimit?[disks.Count];
        for (var i = 0; options.FleeceListedExtentsOnly && i < disks.Count; i++)
        {
            if (bases[i] is not null && request.AlsoReadable.TryGetValue(disks[i].Summary.Id, out var ranges) && ranges.Count > 0)
            {
                limits[i] = new CopyLimit(qmp, CaptureNames.Limit(request.Point, i));
                await limits[i]!.MakeAsync(disks[i].Summary.LengthBytes, SocketPath, ranges, time, cancellationToken);
            }
        }
        return limits;
    }

    public string SocketPath => Path.Combine(folder, CaptureFolder.SocketName);

    /// <summary>The cut. Not cancellable between stop and go on; every command has a time limit.</summary>
    /// <param name="bases">For each disk, the bitmap that is to limit copying; null copies everything.</param>
    /// <param name="limits">To be used in its stead, with it added.</param>
    public async Task<(CaptureConsistency Consistency, string Detail)> CutAsync(
        IReadOnlyList<QemuDisk> disks, IReadOnlyList<TrackingBitmap?> bases, IReadOnlyList<CopyLimit?> limits, bool running, CancellationToken cancellationToken)
    {
        // Disposed last, and without having been disarmed when the guest could not be let go on.
        await using var lease = running && options.Guard is { } guard
            ? await guard.ArmAsync(QemuGuestRelease.TargetOf(machine, folder), Quiesce.GuardLimit(request), cancellationToken) : null;
        await using var quiesce = await Quiesce.BeginAsync(request, running, Connect(), marks, lease, time, cancellationToken);
        try
        {
            await CutStoppedAsync(disks, bases, limits, running, lease);
        }
        finally
        {
            await quiesce.ThawAsync();
        }
        if (lease is not null && !marks.Any && !await lease.DisarmAsync())
        {
            quiesce.DenyHeld();
        }
        return (quiesce.Consistency, quiesce.Detail);
    }

    private Func<CancellationToken, Task<IGuestAgent>>? Connect() => machine.GuestAgentSocket is { } socket
        ? async token => await GuestAgentClient.ConnectAsync(socket, time, entropy, options.GuestAgentTimeout, token) : null;

    private async Task CutStoppedAsync(IReadOnlyList<QemuDisk> disks, IReadOnlyList<TrackingBitmap?> bases, IReadOnlyList<CopyLimit?> limits, bool running, IFreezeLease? lease)
    {
        if (running)
        {
            marks.Set(FreezeMarks.Stopped);
        }
        var done = false;
        try
        {
            if (running)
            {
                await qmp.ExecuteAsync("stop", null, CancellationToken.None, request.FreezeLimit);
            }
            for (var i = 0; i < disks.Count; i++)
            {
                await InsertFilterAsync(disks[i], await LimitOfAsync(disks[i], bases[i], limits[i]), i);
            }
            await qmp.ExecuteAsync("transaction", new JsonObject { ["actions"] = BitmapSettlement.CutActions(disks, request.Point) }, CancellationToken.None, request.FreezeLimit);
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
                await qmp.ExecuteAsync("cont", null, CancellationToken.None);
                marks.Remove(FreezeMarks.Stopped);
            }
        }
    }

    private static async Task<BitmapPlace?> LimitOfAsync(QemuDisk disk, TrackingBitmap? changed, CopyLimit? limit)
    {
        if (changed is null)
        {
            return null;
        }
        var place = new BitmapPlace(disk.Node, changed.Name.ToString());
        if (limit is null)
        {
            return place;
        }
        await limit.AddAsync(place);
        return limit.Place;
    }

    private async Task InsertFilterAsync(QemuDisk disk, BitmapPlace? limit, int index)
    {
        var filter = CaptureNames.Filter(request.Point, index);
        var arguments = new JsonObject
        {
            ["driver"] = "copy-before-write", ["node-name"] = filter, ["file"] = disk.Node, ["target"] = CaptureNames.Fleece(request.Point, index),
            ["on-cbw-error"] = "break-snapshot", ["cbw-timeout"] = (long)Math.Ceiling(options.CopyTimeout.TotalSeconds),
        };
        if (limit is { } bitmap)
        {
            arguments["bitmap"] = new JsonObject { ["node"] = bitmap.Node, ["name"] = bitmap.Name };
        }
        await qmp.ExecuteAsync("blockdev-add", arguments, CancellationToken.None, request.FreezeLimit);
        await qmp.ExecuteAsync("qom-set", new JsonObject { ["path"] = disk.DevicePath, ["property"] = "drive", ["value"] = filter }, CancellationToken.None, request.FreezeLimit);
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

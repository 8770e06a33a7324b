using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// The cut of a machine whose running state is captured, too: stop; the disks' commands and the beginning of the save, in the order
/// that the way of saving calls for; go on. A guest that is saved live goes on by QEMU's doing as soon as its own cut is made: what it
/// does then reaches no other machine of its group before that is cut, for those stand still as it did.
/// </summary>
internal sealed class StateCut(QmpClient qmp, StateSave state, CaptureRequest request, QemuOptions options, TimeProvider time, FreezeMarks marks)
{
    /// <summary>Called while the guest stands still; null: there is nothing to be done.</summary>
    public required Func<Task>? AtTheCut { get; init; }

    /// <summary>Makes, behind a save that had the guest stand still, what would have kept QEMU from giving its disks up.</summary>
    public required Func<Task> Activate { get; init; }

    /// <param name="commands">Of the disks, without stop and going on.</param>
    public async Task RunAsync(IReadOnlyList<QmpCommand> commands, IFreezeLease? lease, CancellationToken cancellationToken)
    {
        using var hold = request.Gate is { } gate ? new GatedHold(gate, request, time) : null;
        marks.Set(FreezeMarks.Stopped);
        var resumed = false;
        try
        {
            await state.ForgetEventsAsync(CancellationToken.None);
            await qmp.ExecuteAsync("stop", null, CancellationToken.None);
            await (hold?.FreezeAsync(cancellationToken) ?? Task.CompletedTask);
            if (!state.IsLive)
            {
                // The others of a group do not stand still for longer.
                await state.SaveAsync(hold is null ? null : GatedHold.MaxOf(request), () => RenewAsync(lease));
                await Activate();
            }
            await qmp.ExecuteAllAsync(commands, request.FreezeLimit, CancellationToken.None);
            if (AtTheCut is not null)
            {
                await AtTheCut();
            }
            if (state.IsLive)
            {
                await state.SaveAsync(request.FreezeLimit, () => RenewAsync(lease));
                resumed = true;
            }
            await (hold?.CutAsync(cancellationToken) ?? Task.CompletedTask);
        }
        catch
        {
            // A monitor that was silent until its limit may be so once more; that is no reason to end this process.
            await RenewAsync(lease);
            await GiveUpSavingAsync();
            throw;
        }
        finally
        {
            if (!resumed)
            {
                await qmp.ExecuteAsync("cont", null, CancellationToken.None);
            }
            marks.Remove(FreezeMarks.Stopped);
        }
        if (!state.IsLive)
        {
            await state.NoteResumedAsync();
        }
    }

    /// <summary>Behind a save QEMU takes its disks for another host's. An export takes them back, as going on would, and the guest still stands still.</summary>
    public static async Task TakeDisksBackAsync(QmpClient qmp, IReadOnlyList<QemuDisk> disks, Id16 point, TimeSpan limit)
    {
        foreach (var (number, disk) in disks.Index())
        {
            var name = CaptureNames.Export(point, number);
            await qmp.ExecuteAsync("block-export-add", new JsonObject { ["type"] = "nbd", ["id"] = name, ["name"] = name, ["node-name"] = disk.Node, ["writable"] = false }, CancellationToken.None);
            await qmp.ExecuteAsync("block-export-del", new JsonObject { ["id"] = name }, CancellationToken.None);
            await qmp.WaitForEventAsync("BLOCK_EXPORT_DELETED", data => data.FindText("id") == name, limit, CancellationToken.None);
        }
    }

    private async Task RenewAsync(IFreezeLease? lease)
    {
        if (lease is not null)
        {
            await lease.RenewAsync(request.FreezeLimit + options.CommandTimeout, CancellationToken.None);
        }
    }

    private async Task GiveUpSavingAsync()
    {
        try
        {
            await state.CancelAsync();
        }
        catch (FaultException)
        {
            // The first failure tells more, and the guest is let go on all the same.
        }
    }
}

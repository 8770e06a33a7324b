using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>What the parts of the driver share: settings, clock, randomness, and the two operations every part needs.</summary>
internal sealed record QemuDriverContext(QemuOptions Options, TimeProvider Time, IEntropy Entropy, ProcessRunner Processes)
{
    public ImageTools ImageTools => new() { QemuImg = Options.QemuImg, QemuNbd = Options.QemuNbd, RequestsInFlight = Options.RequestsInFlight, StateFolder = Options.StateFolder, Time = Time };

    /// <summary>Of machines that come and go.</summary>
    public MovingRecords Moving => new(Options.StateFolder);

    /// <summary>Opens the monitor and makes sure that it belongs to the machine.</summary>
    public async Task<QmpClient> OpenAsync(QemuMachine machine, CancellationToken cancellationToken)
    {
        var qmp = await QmpClient.ConnectAsync(machine.QmpSocket, Time, Options.GreetingTimeout, Options.CommandTimeout, cancellationToken);
        try
        {
            var text = (await qmp.ExecuteAsync("query-uuid", null, cancellationToken)).Text("UUID");
            if (!Id16.TryParse(text, out var uuid) || uuid != machine.Uuid)
            {
                throw new FaultException(FaultReason.FailedPrecondition,
                    $"The monitor {machine.QmpSocket} belongs to the machine {text}, not to {machine.Name} ({machine.Uuid.ToUuidString()}). Correct the configuration.");
            }
            return qmp;
        }
        catch
        {
            await qmp.DisposeAsync();
            throw;
        }
    }

    /// <summary>Removes what captures left and settles the bitmaps in one transaction.</summary>
    public async Task<Id16?> SettleAsync(QmpClient qmp, QemuMachine machine, Func<Id16, bool> committed, CancellationToken cancellationToken)
    {
        await ReleaseGuestAsync(qmp, machine, cancellationToken);
        await RemoveAsync(qmp, machine, cancellationToken);
        var disks = await BlockInventory.ReadAsync(qmp, machine.Uuid, new HashSet<string>(), cancellationToken);
        var outcome = BitmapSettlement.Decide(disks, committed);
        if (outcome.Actions.Count > 0)
        {
            await qmp.ExecuteAsync("transaction", new JsonObject { ["actions"] = outcome.Actions }, cancellationToken);
        }
        return outcome.Base;
    }

    /// <summary>Removes what captures left, and puts the settings back that they changed.</summary>
    public async Task RemoveAsync(QmpClient qmp, QemuMachine machine, CancellationToken cancellationToken)
    {
        foreach (var folder in CaptureRemoval.FindFolders(Options.FleeceFolder, machine.Uuid))
        {
            await new MigrationSettings(folder).RestoreAsync(qmp, Time, cancellationToken);
        }
        await CaptureRemoval.RemoveAsync(qmp, Options.FleeceFolder, machine.Uuid, cancellationToken);
    }

    /// <summary>Undoes the pause and the freeze of a cut that was not finished.</summary>
    public async Task ReleaseGuestAsync(QmpClient qmp, QemuMachine machine, CancellationToken cancellationToken)
    {
        foreach (var folder in CaptureRemoval.FindFolders(Options.FleeceFolder, machine.Uuid))
        {
            var marks = new FreezeMarks(folder);
            await HeldGuest.ContinueAsync(qmp, folder, Time, cancellationToken);
            try
            {
                await HeldGuest.ThawAsync(machine.GuestAgentSocket, marks, Time, Entropy, Options.GuestAgentTimeout, static _ => { }, cancellationToken);
            }
            catch (FaultException)
            {
                // The guest was restarted, or runs no agent any more: then nothing is frozen.
            }
        }
    }
}

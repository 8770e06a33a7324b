using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Brings a machine in order whose replacement was killed half-way: as it was before, or, once it may have been started, with what it runs on.</summary>
internal static class BrokenReplacement
{
    /// <summary>When the agent starts: also what a killed run did not complete goes.</summary>
    public static async Task CleanUpAsync(LibvirtConnection connection, Id16 machine, CancellationToken cancellationToken)
    {
        await SettleAsync(connection, machine, [], cancellationToken);
        var document = (await connection.QueryAsync(libvirt => Domains.Read(libvirt, machine), cancellationToken)).Document;
        var files = document.Disks.Where(disk => disk.SkipReason is null).Select(disk => disk.Path).Append(FirmwareVariables.PathOf(document.Root)).OfType<string>();
        ReplacementJournal.CleanUp([.. files]);
    }

    /// <summary>Does nothing when there is none.</summary>
    /// <param name="more">Images that the machine may have had when the replacement began.</param>
    public static async Task SettleAsync(LibvirtConnection connection, Id16 machine, IEnumerable<string> more, CancellationToken cancellationToken)
    {
        var view = await connection.QueryAsync(libvirt => Domains.Read(libvirt, machine), cancellationToken);
        var images = view.Document.Disks.Select(disk => disk.Path).OfType<string>().Concat(more).Distinct(StringComparer.Ordinal);
        if (ReplacementJournal.Find(images) is not { } journal)
        {
            return;
        }
        if (view.Active && !journal.IsSettled)
        {
            // Somebody started it meanwhile: what it runs on is not taken away.
            journal.Settle();
        }
        if (!journal.IsSettled && journal.Definition is { } former)
        {
            await connection.ChangeAsync(libvirt =>
            {
                using var domain = LibvirtValues.Require(LibvirtCalls.Define(libvirt, former, 0));
                return true;
            }, cancellationToken);
        }
        journal.Recover();
    }
}

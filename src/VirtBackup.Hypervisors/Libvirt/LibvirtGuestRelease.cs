using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Thaws a guest through libvirt, which serves everybody at once: nobody has to be out of the way for it.</summary>
public sealed class LibvirtGuestRelease(IBlockingCalls blocking, TimeProvider time) : IGuestRelease
{
    private const string DriverKind = "libvirt";
    private const string ConnectionUri = "uri";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);

    public string Kind => DriverKind;

    public bool NeedsHolderGone => false;

    internal static FreezeTarget TargetOf(LibvirtConnection connection, DomainView view, string folder) =>
        new(DriverKind, view.Document.Uuid, view.Document.Name, folder, new Dictionary<string, string>(StringComparer.Ordinal) { [ConnectionUri] = connection.Uri });

    public async ValueTask<ReleaseOutcome> TryReleaseAsync(FreezeTarget target, Action<string> log, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(log);
        var marks = new FreezeMarks(target.Folder);
        if (!marks.Any)
        {
            return ReleaseOutcome.Released;
        }
        var uri = target.Addresses[ConnectionUri];
        await using var connection = new LibvirtConnection(
            uri, new LibvirtOptions([uri], Path.DirectorySeparatorChar.ToString()) { CallTimeout = Patience }, time, blocking);
        try
        {
            if (!await DomainSave.TryReleaseAsync(connection, target.Machine, target.Folder, log, cancellationToken))
            {
                log("libvirt is still saving it.");
                return ReleaseOutcome.Again;
            }
            if (!marks.Any)
            {
                return ReleaseOutcome.Released;
            }
            if (!await connection.QueryAsync(libvirt => Domains.IsActive(libvirt, target.Machine), cancellationToken))
            {
                log("The machine has ended.");
                marks.Remove(FreezeMarks.Stopped);
                marks.Remove(FreezeMarks.Frozen);
                marks.Remove(FreezeMarks.Hooked);
                return ReleaseOutcome.Released;
            }
            await HeldDomain.ResumeAsync(connection, target.Machine, marks, cancellationToken);
            if (!marks.Any)
            {
                return ReleaseOutcome.Released;
            }
            await using var agent = new DomainAgent(connection, target.Machine, time);
            await MarkedThaw.RunAsync(agent, marks, Patience, time, log, cancellationToken);
            return ReleaseOutcome.Released;
        }
        catch (Exception failure) when (failure is FaultException or IOException or UnauthorizedAccessException)
        {
            log(failure.Message);
            return ReleaseOutcome.Again;
        }
    }
}

using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt.Native;

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
            var thawed = await DomainQuiesce.ThawAsync(connection, target.Machine, cancellationToken).WaitAsync(Patience, time, cancellationToken);
            marks.Remove(FreezeMarks.Frozen);
            log($"{thawed} file systems of the guest were thawed.");
            return ReleaseOutcome.Released;
        }
        catch (LibvirtFailure failure) when (failure.Code == LibvirtFailure.NoDomain)
        {
            log("There is no such machine any more.");
            marks.Remove(FreezeMarks.Frozen);
            return ReleaseOutcome.Released;
        }
        catch (Exception failure) when (failure is LibvirtFailure or FaultException or TimeoutException or IOException or UnauthorizedAccessException)
        {
            log(failure.Message);
            return ReleaseOutcome.Again;
        }
    }
}

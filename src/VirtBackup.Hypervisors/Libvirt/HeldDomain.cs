using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A guest whose processors are stopped, for the cut of its group or for its change-over, marked so that whoever comes next lets it go on.</summary>
internal static class HeldDomain
{
    private const int StateRunning = 1, StatePaused = 3;

    /// <returns>False: it was not running, and is left as it is.</returns>
    public static Task<bool> SuspendAsync(LibvirtConnection connection, Id16 machine, FreezeMarks marks) => connection.ChangeAsync(libvirt =>
    {
        using var domain = Domains.Find(libvirt, machine);
        if (StateOf(domain) != StateRunning)
        {
            return false;
        }
        marks.Set(FreezeMarks.Stopped);
        LibvirtValues.Require(LibvirtBlockJobs.Suspend(domain));
        return true;
    }, CancellationToken.None);

    /// <summary>Whether nobody has let it go on.</summary>
    public static Task<bool> StandsAsync(LibvirtConnection connection, Id16 machine) => connection.QueryAsync(libvirt =>
    {
        using var domain = Domains.Find(libvirt, machine);
        return StateOf(domain) != StateRunning;
    }, CancellationToken.None);

    /// <summary>Works by the mark; does nothing without it.</summary>
    public static async Task ResumeAsync(LibvirtConnection connection, Id16 machine, FreezeMarks marks, CancellationToken cancellationToken)
    {
        if (!marks.Has(FreezeMarks.Stopped))
        {
            return;
        }
        await connection.ChangeAsync(libvirt =>
        {
            using var domain = Domains.TryFind(libvirt, machine);
            if (domain is not null && StateOf(domain) == StatePaused)
            {
                LibvirtValues.Require(LibvirtBlockJobs.Resume(domain));
            }
            return true;
        }, cancellationToken);
        marks.Remove(FreezeMarks.Stopped);
    }

    private static int StateOf(DomainHandle domain)
    {
        LibvirtValues.Require(LibvirtCalls.GetState(domain, out var state, out _, 0));
        return state;
    }
}

using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt.Moving;

/// <summary>Lets a machine go on that was suspended for its change-over. Works by the marks, and may be repeated.</summary>
internal static class HeldDomain
{
    private const int StatePaused = 3;

    public static async Task ResumeAsync(LibvirtConnection connection, Id16 machine, FreezeMarks marks, CancellationToken cancellationToken)
    {
        if (!marks.Has(FreezeMarks.Stopped))
        {
            return;
        }
        await connection.ChangeAsync(libvirt =>
        {
            using var domain = Domains.TryFind(libvirt, machine);
            return domain is null || LibvirtCalls.GetState(domain, out var state, out _, 0) < 0 || state != StatePaused ? 0 : LibvirtValues.Require(LibvirtBlockJobs.Resume(domain));
        }, cancellationToken);
        marks.Remove(FreezeMarks.Stopped);
    }
}

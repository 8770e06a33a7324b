using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.State;

/// <summary>Names of a machine's state streams: the same from point to point.</summary>
internal static class StateNames
{
    public static Id16 MemoryOf(Id16 machine) => CaptureNames.DiskId(machine, "state\0memory");

    public static Id16 DevicesOf(Id16 machine) => CaptureNames.DiskId(machine, "state\0devices");
}

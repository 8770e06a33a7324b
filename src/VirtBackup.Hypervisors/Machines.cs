using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors;

/// <summary>A machine as lists show it.</summary>
/// <param name="Id">Its UUID; it survives renaming and moving to another host.</param>
/// <param name="Problem">Why it cannot be captured now, or null.</param>
public sealed record MachineSummary(Id16 Id, string Name, bool Running, IReadOnlyList<DiskSummary> Disks, string? Problem);

/// <summary>A disk of a machine.</summary>
/// <param name="Id">Stable while the device keeps its place in the machine.</param>
/// <param name="Name">The device as the hypervisor names it, for people.</param>
/// <param name="SkipReason">Why it is not captured (read-only medium, passthrough, excluded), or null.</param>
public sealed record DiskSummary(Id16 Id, string Name, long LengthBytes, string Format, string? SkipReason);

/// <summary>The configuration part of a recovery point.</summary>
/// <param name="Neutral">A description that any platform could rebuild: CPU, memory, firmware, disks, network cards.</param>
/// <param name="NativeKind">What <paramref name="Native"/> is: <c>qemu-argv</c>, <c>libvirt-xml</c>, <c>none</c>.</param>
/// <param name="Native">The platform's own document, verbatim.</param>
public sealed record MachineConfiguration(string Name, JsonElement Neutral, string NativeKind, ReadOnlyMemory<byte> Native);

/// <summary>How the data of a capture relates to what the guest had written.</summary>
public enum CaptureConsistency
{
    /// <summary>As after a power cut.</summary>
    Crash = 1,
    /// <summary>File systems were frozen for the cut.</summary>
    Filesystem = 2,
    /// <summary>Applications were quiesced, too.</summary>
    Application = 3,
}

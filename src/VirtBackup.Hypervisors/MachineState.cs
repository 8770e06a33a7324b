namespace VirtBackup.Hypervisors;

/// <summary>Whether a machine's memory and processors are captured with its disks, at the same instant.</summary>
public enum StateCapture
{
    /// <summary>Disks and configuration only.</summary>
    None = 0,
    /// <summary>The guest goes on as soon as its memory is protected; what it overwrites is saved first. Refused where that cannot be done.</summary>
    Live,
    /// <summary>The guest stands still until its memory is saved.</summary>
    Stopped,
}

/// <summary>The running state of a machine at the cut. Its streams are read as disks are, and last as long as the capture.</summary>
/// <param name="Memory">The guest's memory by address: what did not change since another capture lies at the same place.</param>
/// <param name="Devices">Processors, devices, and how the memory is laid out.</param>
/// <param name="Paused">For how long the guest stood still, as the hypervisor measured it.</param>
public sealed record CapturedState(ICapturedDisk Memory, ICapturedDisk Devices, TimeSpan Paused);

/// <summary>A running state that a restored machine is to go on from.</summary>
/// <param name="Memory">Its <see cref="RestoreDisk.Format"/> is <c>raw</c>.</param>
/// <param name="Devices">As <paramref name="Memory"/>.</param>
public sealed record RestoreState(RestoreDisk Memory, RestoreDisk Devices);

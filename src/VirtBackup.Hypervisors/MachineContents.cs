using VirtBackup.Core;

namespace VirtBackup.Hypervisors;

/// <summary>What kind of memory a machine keeps beside its disks.</summary>
public enum MachineContentKind
{
    /// <summary>The firmware's variables.</summary>
    Nvram = 1,
    /// <summary>The state of a TPM.</summary>
    Tpm = 2,
}

/// <summary>A small memory of a machine, captured with its configuration and recreated with it.</summary>
/// <param name="Id">Stable, and different from those of the machine's disks.</param>
/// <param name="Bytes">At most <see cref="BytesMax"/>.</param>
public sealed record MachineContent(Id16 Id, string Name, MachineContentKind Kind, ReadOnlyMemory<byte> Bytes)
{
    public const int BytesMax = 16 << 20;
}

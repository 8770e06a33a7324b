using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors;

/// <summary>What to recreate and where.</summary>
/// <param name="Folder">
/// Absolute path of a folder that does not exist yet or is empty; it will hold disks, sockets and launch record. Empty unless
/// <see cref="RestorePlacement.NewFolder"/>.
/// </param>
/// <param name="Name">Name of the restored machine.</param>
public sealed record RestoreRequest(
    Id16 Machine,
    Id16 Point,
    string HypervisorKind,
    MachineConfiguration Configuration,
    IReadOnlyList<RestoreDisk> Disks,
    string Folder,
    string Name)
{
    /// <summary>Keep UUID and MAC addresses (the original is gone); otherwise both are made anew, so that the copy can run beside the original.</summary>
    public bool KeepIdentity { get; init; }

    /// <summary>Start the machine when its disks are complete.</summary>
    public bool Start { get; init; } = true;

    /// <summary>
    /// Asked once, when disks and definition are whole and <see cref="Start"/> is set, and waited for however long it takes; false: the machine
    /// stays off. Null: it starts at once.
    /// </summary>
    public Func<CancellationToken, ValueTask<bool>>? StartGate { get; init; }

    /// <summary>
    /// The machine moves to this host: the driver serves it from now on, though it stays off, and removes it when it is retired. Only with
    /// <see cref="KeepIdentity"/>, without <see cref="Start"/>.
    /// </summary>
    public bool Adopt { get; init; }

    public DiskPreallocation Preallocation { get; init; } = DiskPreallocation.None;

    public RestorePlacement Placement { get; init; }

    /// <summary><see cref="Disks"/> are some of the machine's: they are restored as images, and no machine is defined or started.</summary>
    public bool DisksOnly { get; init; }

    /// <summary>What was replaced stays beside the new files under another name.</summary>
    public bool KeepReplaced { get; init; }

    public IReadOnlyList<NetworkMapping> Networks { get; init; } = [];

    /// <summary>
    /// The running state that the machine goes on from instead of booting; null: it boots. With <see cref="Start"/> and
    /// <see cref="KeepIdentity"/> only. A host that cannot run it is told by a finding that blocks.
    /// </summary>
    public RestoreState? State { get; init; }

    /// <summary>What the stored machine kept beside its disks; without bytes while a restore is only checked. Drivers that cannot recreate it say so in a finding.</summary>
    public IReadOnlyList<MachineContent> Contents { get; init; } = [];

    /// <summary>Whether the machine, whose disks and definition are whole, is to be started now. Drivers ask this in place of <see cref="Start"/>, right before they start it.</summary>
    public ValueTask<bool> MayStartAsync(CancellationToken cancellationToken) => !Start ? new(false) : StartGate?.Invoke(cancellationToken) ?? new(true);
}

/// <param name="Format">Image format to create: <c>qcow2</c> or <c>raw</c>.</param>
/// <param name="DataBytes">Bytes that will be written, for the space check.</param>
public sealed record RestoreDisk(Id16 Id, string Name, long LengthBytes, string Format, long DataBytes)
{
    /// <summary><see cref="Format"/> was asked for; otherwise it is that of the recovery point.</summary>
    public bool IsFormatChosen { get; init; }

    /// <summary><c>virtio</c>, <c>scsi</c>, <c>ide</c> or <c>sata</c>; null: as it was.</summary>
    public string? Bus { get; init; }
}

/// <summary>How much of a new image is reserved when it is made.</summary>
public enum DiskPreallocation
{
    /// <summary>Sparse.</summary>
    None = 0,
    /// <summary>qcow2 metadata only; sparse for raw.</summary>
    Metadata,
    /// <summary>All blocks reserved (fallocate).</summary>
    Full,
}

public enum FindingSeverity
{
    Fits = 0,
    /// <summary>Will be adapted, said how.</summary>
    Adapts,
    /// <summary>The restore is refused.</summary>
    Blocks,
    /// <summary>It cannot be judged, said why; the restore goes on.</summary>
    Unknown,
}

/// <param name="Item">What was compared: <c>space</c>, <c>disk format</c>, <c>machine type</c>, <c>name</c>.</param>
/// <param name="Message">What and why, and for what blocks: what to do.</param>
public sealed record RestoreFinding(string Item, FindingSeverity Severity, string Message);

/// <summary>Where restored disks lie: a folder's file system, a pool, a datastore.</summary>
public interface IRestoreTarget
{
    /// <summary>For people, and to judge a restore by others to the same target: the same words as long as it is the same storage.</summary>
    string Name { get; }

    /// <summary>Begins to write a few MiB there, to measure by how fast restored data gets there. Nothing of it is left.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: nothing can be written there.</exception>
    ValueTask<ITargetSample> BeginSampleAsync(CancellationToken cancellationToken);
}

/// <summary>Data written to be measured; it goes with this, or with the process. Writes may be in flight together.</summary>
public interface ITargetSample : IAsyncDisposable
{
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the device failed or is full.</exception>
    ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken);

    /// <summary>Returns when everything written is on stable storage.</summary>
    ValueTask FlushAsync(CancellationToken cancellationToken);
}

/// <summary>
/// A restore in progress. Disks are new and read as zero, or are <see cref="IExistingDisk"/>. Disposing without
/// <see cref="CompleteAsync"/> removes everything created; existing disks stay as far as they were written, and marked.
/// </summary>
public interface IRestore : IAsyncDisposable
{
    /// <summary>In the order of <see cref="RestoreRequest.Disks"/>.</summary>
    IReadOnlyList<IRestoredDisk> Disks { get; }

    /// <summary>Memory and devices of <see cref="RestoreRequest.State"/>, in this order, to be written as disks are; empty without it.</summary>
    IReadOnlyList<IRestoredDisk> State => [];

    /// <summary>Makes disks durable, gives them their names, defines the machine and starts it if asked to.</summary>
    ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken);
}

/// <summary>
/// One disk being written. Writes to different ranges may be in flight together. Data that lies at a page boundary
/// (<see cref="Limits.PageBytes"/>) of pinned memory and is a number of whole pages of the disk is written without a copy
/// where the disk's format and file system allow it.
/// </summary>
public interface IRestoredDisk
{
    RestoreDisk Disk { get; }

    ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken);
}

/// <summary>Where the restored machine is.</summary>
/// <param name="Details">Name → value, for people: disk paths, monitor and guest-agent sockets, process id.</param>
public sealed record RestoredMachine(Id16 Id, string Name, bool Running, IReadOnlyDictionary<string, string> Details)
{
    /// <summary>The stored machine, described in the way of <see cref="Description"/>; null: by the point's neutral description.</summary>
    public JsonElement? CapturedDescription { get; init; }

    /// <summary>The guest of a machine that was started; null: it was not, or has no guest agent's channel.</summary>
    public IRestoredGuest? Guest { get; init; }

    /// <summary>The machine as it is now, read back from what was made, in neutral terms; null: nothing was made that can be described.</summary>
    public JsonElement? Description { get; init; }
}

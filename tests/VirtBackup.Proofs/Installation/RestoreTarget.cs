using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Installation;

/// <summary>One write of a restore.</summary>
internal sealed record RestoreWrite(Id16 Disk, long Offset, byte[] Bytes);

/// <summary>How a restore ended, and everything that it wrote.</summary>
internal sealed record RestoreOutcome(FaultException? Failure, IReadOnlyList<RestoreWrite> Writes)
{
    /// <summary>Every written byte is the source's; after a success every byte that was not written is zero there.</summary>
    /// <exception cref="RefutedException">It is not so.</exception>
    public void RequireTrue(Id16 point, IReadOnlyDictionary<Id16, byte[]> source)
    {
        var disks = source.ToDictionary(disk => disk.Key, disk => new byte[disk.Value.Length]);
        foreach (var write in Writes)
        {
            if (!source[write.Disk].AsSpan((int)write.Offset, write.Bytes.Length).SequenceEqual(write.Bytes))
            {
                throw new RefutedException($"The restore of point {point} wrote other bytes than the source's at byte {write.Offset} of disk {write.Disk}.");
            }
            write.Bytes.CopyTo(disks[write.Disk], write.Offset);
        }
        if (Failure is null && disks.FirstOrDefault(disk => !disk.Value.AsSpan().SequenceEqual(source[disk.Key])) is { Value: not null } wrong)
        {
            throw new RefutedException($"The restore of point {point} succeeded, but disk {wrong.Key} is not the source's.");
        }
    }
}

/// <summary>Takes a restore and remembers what is written.</summary>
internal sealed class RestoreTarget(FakeHypervisor machine, bool writeWrongly) : IHypervisor
{
    private readonly List<RestoreWrite> _writes = [];

    public string Kind => machine.Kind;

    public IReadOnlyList<RestoreWrite> Writes => _writes;

    public ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken) => machine.ListMachinesAsync(cancellationToken);

    public ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken) => ValueTask.CompletedTask;

    public ValueTask<IReadOnlyList<Id16>> ListTrackedPointsAsync(Id16 id, CancellationToken cancellationToken) => machine.ListTrackedPointsAsync(id, cancellationToken);

    public ValueTask<Id16?> SettleAsync(Id16 id, IReadOnlySet<Id16> committed, CancellationToken cancellationToken) => machine.SettleAsync(id, committed, cancellationToken);

    public ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken) => machine.PlanCaptureAsync(request, cancellationToken);

    public ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken) => machine.BeginCaptureAsync(request, cancellationToken);

    public ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) =>
        machine.CheckRestoreAsync(request, cancellationToken);

    public ValueTask<IRestore> BeginRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) => new(new Restore(this, request));

    private void Write(Id16 disk, long offset, ReadOnlyMemory<byte> source)
    {
        var bytes = source.ToArray();
        bytes[^1] ^= writeWrongly ? (byte)1 : (byte)0;
        _writes.Add(new RestoreWrite(disk, offset, bytes));
    }

    private sealed class Restore(RestoreTarget owner, RestoreRequest request) : IRestore
    {
        public IReadOnlyList<IRestoredDisk> Disks { get; } = [.. request.Disks.Select(disk => new Disk(owner, disk))];

        public ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken) =>
            new(new RestoredMachine(request.Machine, request.Name, true, new Dictionary<string, string>()));

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }

    private sealed class Disk(RestoreTarget owner, RestoreDisk disk) : IRestoredDisk
    {
        RestoreDisk IRestoredDisk.Disk => disk;

        public ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
        {
            owner.Write(disk.Id, offset, source);
            return ValueTask.CompletedTask;
        }
    }
}

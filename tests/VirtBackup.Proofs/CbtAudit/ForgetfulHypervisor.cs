using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Hypervisors;

namespace VirtBackup.Proofs.CbtAudit;

/// <summary>A hypervisor whose change tracking loses changes: dirty extents that it does not tell of.</summary>
internal sealed class ForgetfulHypervisor(IHypervisor inner) : IHypervisor
{
    private const int Block = AuditStatistics.BlockBytes;

    /// <summary>Blocks, by disk name and number, that are not told of.</summary>
    public HashSet<(string Disk, long Block)> Lost { get; } = [];

    /// <summary>Whether the run should end where its audit does; asked when it reads.</summary>
    public Func<bool> IsOver { get; set; } = static () => false;

    /// <summary>What the disk is to read as where it is audited, byte by byte; null: as it is. Planted defect: nothing there is found.</summary>
    public Func<string, long, byte[]?>? Seen { get; set; }

    public string Kind => "fake";

    public ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken) => inner.ListMachinesAsync(cancellationToken);

    public ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken) => inner.ReleaseGuestsAsync(cancellationToken);

    public ValueTask<IReadOnlyList<Id16>> ListTrackedPointsAsync(Id16 machine, CancellationToken cancellationToken) => inner.ListTrackedPointsAsync(machine, cancellationToken);

    public ValueTask<Id16?> SettleAsync(Id16 machine, IReadOnlySet<Id16> committed, CancellationToken cancellationToken) => inner.SettleAsync(machine, committed, cancellationToken);

    public ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken) => inner.PlanCaptureAsync(request, cancellationToken);

    public async ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken) =>
        new Capture(this, await inner.BeginCaptureAsync(request, cancellationToken));

    public ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) => inner.CheckRestoreAsync(request, cancellationToken);

    public ValueTask<IRestore> BeginRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) => inner.BeginRestoreAsync(request, cancellationToken);

    private void RequireGoingOn()
    {
        if (IsOver())
        {
            throw new FaultException(FaultReason.SnapshotLost, "The trial is over.");
        }
    }

    private sealed class Capture(ForgetfulHypervisor owner, ICapture inner) : ICapture
    {
        public MachineConfiguration Configuration => inner.Configuration;

        public CaptureConsistency Consistency => inner.Consistency;

        public string ConsistencyDetail => inner.ConsistencyDetail;

        public IReadOnlyList<ICapturedDisk> Disks { get; } = [.. inner.Disks.Select(disk => new Disk(owner, disk))];

        public IReadOnlyList<DiskSummary> SkippedDisks => inner.SkippedDisks;

        public ValueTask CommitAsync(CancellationToken cancellationToken) => inner.CommitAsync(cancellationToken);

        public ValueTask AbandonAsync(CancellationToken cancellationToken) => inner.AbandonAsync(cancellationToken);

        public ValueTask DetachAsync(CancellationToken cancellationToken) => inner.DetachAsync(cancellationToken);

        public ValueTask DisposeAsync() => inner.DisposeAsync();
    }

    private sealed class Disk(ForgetfulHypervisor owner, ICapturedDisk inner) : ICapturedDisk
    {
        DiskSummary ICapturedDisk.Disk => inner.Disk;

        public bool ChangedOnly => inner.ChangedOnly;

        public string Reason => inner.Reason;

        public ReadReach Reach => inner.Reach;

        public string BaseToken => inner.BaseToken;

        public bool SequentialOnly => inner.SequentialOnly;

        public async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
        {
            owner.RequireGoingOn();
            await foreach (var extent in inner.ListExtentsAsync(cancellationToken))
            {
                var start = extent.Offset;
                for (var at = start; at < extent.End;)
                {
                    var end = Math.Min(extent.End, ((at / Block) + 1) * Block);
                    if (ChangedOnly && owner.Lost.Contains((inner.Disk.Name, at / Block)))
                    {
                        if (at > start)
                        {
                            yield return new ByteRange(start, at - start);
                        }
                        start = end;
                    }
                    at = end;
                }
                if (extent.End > start)
                {
                    yield return extent with { Offset = start, Length = extent.End - start };
                }
            }
        }

        public async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
        {
            owner.RequireGoingOn();
            await inner.ReadAsync(offset, destination, cancellationToken);
            for (var at = 0; owner.Seen is { } seen && at < destination.Length;)
            {
                var (block, within) = ((offset + at) / Block, (int)((offset + at) % Block));
                var length = Math.Min(destination.Length - at, Block - within);
                if (seen(inner.Disk.Name, block) is { } content)
                {
                    content.AsMemory(within, length).CopyTo(destination[at..]);
                }
                at += length;
            }
        }
    }
}

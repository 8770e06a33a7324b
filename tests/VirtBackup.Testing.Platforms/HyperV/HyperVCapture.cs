using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms.HyperV;

/// <summary>A checkpoint being read. It becomes a reference point when its point is durable, or may be.</summary>
internal sealed class HyperVCapture : ICapture
{
    private readonly ViewEnd end;

    /// <param name="baseTokens">Of the point before, whose reference point ends with a commit.</param>
    public HyperVCapture(
        HyperVHypervisor driver, PlatformMachine machine, string checkpoint, IReadOnlyDictionary<Id16, string> baseTokens, IReadOnlyList<HyperVCapturedDisk> disks, IReadOnlyList<DiskSummary> skipped)
    {
        (Disks, SkippedDisks) = (disks, skipped);
        Configuration = HyperVHypervisor.Describe(machine, disks.Select(disk => disk.Disk));
        end = new ViewEnd(async (outcome, cancellationToken) =>
        {
            if (outcome == ViewOutcome.Abandoned)
            {
                await driver.DestroyCheckpointAsync(machine.Id, checkpoint, cancellationToken);
                return;
            }
            await driver.ConvertAsync(machine.Id, checkpoint, cancellationToken);
            if (outcome == ViewOutcome.Committed)
            {
                await driver.DestroyReferencesAsync(machine.Id, baseTokens.Values, cancellationToken);
            }
        });
    }

    public MachineConfiguration Configuration { get; }

    public CaptureConsistency Consistency => CaptureConsistency.Crash;

    public string ConsistencyDetail => "a checkpoint without quiescing";

    public IReadOnlyList<ICapturedDisk> Disks { get; }

    public IReadOnlyList<DiskSummary> SkippedDisks { get; }

    public ValueTask CommitAsync(CancellationToken cancellationToken) => end.EndAsync(ViewOutcome.Committed, cancellationToken);

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => end.EndAsync(ViewOutcome.Abandoned, cancellationToken);

    public ValueTask DetachAsync(CancellationToken cancellationToken) => end.EndAsync(ViewOutcome.Unknown, cancellationToken);

    public ValueTask DisposeAsync() => end.DisposeAsync();
}

/// <summary>One disk of a checkpoint.</summary>
internal sealed class HyperVCapturedDisk : ICapturedDisk
{
    /// <summary>The longest region asked for at once.</summary>
    private const long RegionBytesMax = 256 << 10;

    private readonly HyperVHypervisor driver;
    private readonly Id16 machine;
    private readonly string checkpoint;
    private readonly HyperVFrozenDisk frozen;
    private readonly string? limit;

    private HyperVCapturedDisk(HyperVHypervisor driver, Id16 machine, DiskSummary disk, string checkpoint, HyperVFrozenDisk frozen, string? limit, string reason)
    {
        (this.driver, this.machine, this.checkpoint, this.frozen, this.limit) = (driver, machine, checkpoint, frozen, limit);
        (Disk, Reason) = (disk, reason);
    }

    public DiskSummary Disk { get; }

    public bool ChangedOnly => limit is not null;

    public string Reason { get; }

    public string BaseToken => frozen.TrackingId;

    public static async ValueTask<HyperVCapturedDisk> OpenAsync(
        HyperVHypervisor driver, CaptureRequest request, DiskSummary disk, string checkpoint, HyperVFrozenDisk frozen, CancellationToken cancellationToken)
    {
        var reason = request.Base is null ? "read in full: no earlier recovery point is there to build on" : "read in full: it was not part of the last recovery point";
        if (request.Base is not null && request.BaseTokens.TryGetValue(disk.Id, out var token))
        {
            try
            {
                await driver.Link.CallAsync("GetVirtualDiskChanges", () => driver.Server.GetVirtualDiskChanges(request.Machine, checkpoint, frozen.Path, token, 0, 0), cancellationToken);
                return new HyperVCapturedDisk(driver, request.Machine, disk, checkpoint, frozen, token, "changed blocks only");
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.InvalidArgument)
            {
                reason = "read in full: its reference point is gone, since it was resized or the machine moved to another host";
            }
        }
        return new HyperVCapturedDisk(driver, request.Machine, disk, checkpoint, frozen, null, reason);
    }

    public async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        if (limit is null)
        {
            // Nobody tells here what is allocated.
            if (Disk.LengthBytes > 0)
            {
                yield return new ByteRange(0, Disk.LengthBytes);
            }
            yield break;
        }
        for (long offset = 0; offset < Disk.LengthBytes;)
        {
            var (at, length) = (offset, Math.Min(RegionBytesMax, Disk.LengthBytes - offset));
            var (ranges, processed) = await TranslateAsync(() => driver.Link.CallAsync(
                "GetVirtualDiskChanges", () => driver.Server.GetVirtualDiskChanges(machine, checkpoint, frozen.Path, limit, at, length), cancellationToken));
            foreach (var range in ranges)
            {
                yield return range;
            }
            offset += processed;
        }
    }

    public async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken) => await TranslateAsync(
        () => driver.Link.CallAsync("ReadVirtualDisk", () =>
        {
            driver.Server.Read(machine, checkpoint, frozen.Path, offset, destination.Span);
            return true;
        }, cancellationToken));

    private async ValueTask<T> TranslateAsync<T>(Func<ValueTask<T>> call)
    {
        try
        {
            return await call();
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.InvalidArgument)
        {
            throw new FaultException(FaultReason.SnapshotLost, $"The checkpoint that disk {Disk.Name} is read from is gone: somebody removed it. The guest is unharmed; run again. ({fault.Message})", fault);
        }
    }
}

using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms.HyperV;

/// <summary>A checkpoint being read. It becomes a reference point when its point is durable, or may be.</summary>
internal sealed class HyperVCapture : ServerCapture
{
    private readonly HyperVHypervisor driver;
    private readonly Id16 machine;
    private readonly string checkpoint;
    private readonly IEnumerable<string> baseTokens;

    /// <param name="baseTokens">Of the point before, whose reference point ends with a commit.</param>
    public HyperVCapture(
        HyperVHypervisor driver, PlatformMachine machine, string checkpoint, IEnumerable<string> baseTokens, IReadOnlyList<HyperVCapturedDisk> disks, IReadOnlyList<DiskSummary> all)
        : base(driver, machine, disks, all) => (this.driver, this.machine, this.checkpoint, this.baseTokens) = (driver, machine.Id, checkpoint, baseTokens);

    protected override async ValueTask EndAsync(CaptureOutcome outcome, CancellationToken cancellationToken)
    {
        if (outcome == CaptureOutcome.Abandoned)
        {
            await driver.DestroyCheckpointAsync(machine, checkpoint, cancellationToken);
            return;
        }
        await driver.ConvertAsync(machine, checkpoint, cancellationToken);
        if (outcome == CaptureOutcome.Committed)
        {
            await driver.DestroyReferencesAsync(machine, baseTokens, cancellationToken);
        }
    }
}

/// <summary>One disk of a checkpoint.</summary>
internal sealed class HyperVCapturedDisk : ServerCapturedDisk
{
    /// <summary>The longest region asked for at once.</summary>
    private const long RegionBytesMax = 256 << 10;

    private readonly HyperVHypervisor driver;
    private readonly Id16 machine;
    private readonly string checkpoint;
    private readonly HyperVFrozenDisk frozen;
    private readonly string? limit;

    private HyperVCapturedDisk(HyperVHypervisor driver, Id16 machine, DiskSummary disk, string checkpoint, HyperVFrozenDisk frozen, string? limit, string reason)
        : base(disk, reason, frozen.TrackingId) => (this.driver, this.machine, this.checkpoint, this.frozen, this.limit) = (driver, machine, checkpoint, frozen, limit);

    public static async ValueTask<HyperVCapturedDisk> OpenAsync(
        HyperVHypervisor driver, CaptureRequest request, DiskSummary disk, string checkpoint, HyperVFrozenDisk frozen, CancellationToken cancellationToken)
    {
        var reason = request.Base is null ? NoBase : NotInBase;
        if (request.Base is not null && request.BaseTokens.TryGetValue(disk.Id, out var token))
        {
            try
            {
                await driver.Link.CallAsync("GetVirtualDiskChanges", () => driver.Server.GetVirtualDiskChanges(request.Machine, checkpoint, frozen.Path, token, 0, 0), cancellationToken);
                return new HyperVCapturedDisk(driver, request.Machine, disk, checkpoint, frozen, token, ChangesOnly);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.InvalidArgument)
            {
                reason = "read in full: its reference point is gone, since it was resized or the machine moved to another host";
            }
        }
        return new HyperVCapturedDisk(driver, request.Machine, disk, checkpoint, frozen, null, reason);
    }

    public override async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
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

    public override async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken) => await TranslateAsync(
        () => driver.Link.CallAsync("ReadVirtualDisk", () => Did(() => driver.Server.Read(machine, checkpoint, frozen.Path, offset, destination.Span)), cancellationToken));
}

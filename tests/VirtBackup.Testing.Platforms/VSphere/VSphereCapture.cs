using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms.VSphere;

/// <summary>A snapshot being read. The server tracks changes since every point by itself, so that all ends are one: it is removed.</summary>
internal sealed class VSphereCapture : ServerCapture
{
    private readonly VSphereHypervisor driver;
    private readonly Id16 machine;
    private readonly string snapshot;
    private readonly IReadOnlyList<VSphereCapturedDisk> disks;

    public VSphereCapture(VSphereHypervisor driver, PlatformMachine machine, string snapshot, IReadOnlyList<VSphereCapturedDisk> disks, IReadOnlyList<DiskSummary> all)
        : base(driver, machine, disks, all) => (this.driver, this.machine, this.snapshot, this.disks) = (driver, machine.Id, snapshot, disks);

    protected override async ValueTask EndAsync(CaptureOutcome outcome, CancellationToken cancellationToken)
    {
        foreach (var disk in disks)
        {
            await disk.CloseAsync(cancellationToken);
        }
        await driver.RemoveSnapshotAsync(machine, snapshot, cancellationToken);
    }
}

/// <summary>One disk of a snapshot.</summary>
internal sealed class VSphereCapturedDisk : ServerCapturedDisk
{
    private readonly VSphereHypervisor driver;
    private readonly Id16 machine;
    private readonly string snapshot;
    private readonly VSphereFrozenDisk frozen;
    private readonly string since;
    private int? lease;
    private long position;
    private int reading;

    private VSphereCapturedDisk(VSphereHypervisor driver, Id16 machine, DiskSummary disk, string snapshot, VSphereFrozenDisk frozen, string since, string reason)
        : base(disk, reason, frozen.ChangeId) => (this.driver, this.machine, this.snapshot, this.frozen, this.since) = (driver, machine, snapshot, frozen, since);

    public override bool SequentialOnly => driver.Exports;

    public static async ValueTask<VSphereCapturedDisk> OpenAsync(
        VSphereHypervisor driver, CaptureRequest request, DiskSummary disk, string snapshot, VSphereFrozenDisk frozen, CancellationToken cancellationToken)
    {
        var (since, reason) = ("*", NoBase);
        if (request.Base is not null)
        {
            reason = NotInBase;
            if (request.BaseTokens.GetValueOrDefault(disk.Id) is { Length: > 0 } token)
            {
                try
                {
                    await driver.Link.CallAsync("QueryChangedDiskAreas", () => driver.Server.QueryChangedDiskAreas(request.Machine, snapshot, frozen.Key, 0, token), cancellationToken);
                    (since, reason) = (token, ChangesOnly);
                }
                catch (FaultException fault) when (fault.Reason == FaultReason.InvalidArgument)
                {
                    reason = "read in full: its change id does not hold any more, since it was resized or reverted, or the host ended uncleanly";
                }
            }
        }
        return new VSphereCapturedDisk(driver, request.Machine, disk, snapshot, frozen, since, reason);
    }

    public override async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        for (long start = 0; start < Disk.LengthBytes;)
        {
            var at = start;
            var (areas, describedTo) = await TranslateAsync(
                () => driver.Link.CallAsync("QueryChangedDiskAreas", () => driver.Server.QueryChangedDiskAreas(machine, snapshot, frozen.Key, at, since), cancellationToken));
            foreach (var area in areas)
            {
                yield return area;
            }
            start = describedTo;
        }
    }

    public override async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        if (!driver.Exports)
        {
            await TranslateAsync(() => driver.Link.CallAsync("ReadDisk", () => Did(() => driver.Server.Read(machine, snapshot, frozen.Key, offset, destination.Span)), cancellationToken));
            return;
        }
        Check.That(Interlocked.Exchange(ref reading, 1) == 0 && offset >= position);
        try
        {
            lease ??= await TranslateAsync(() => driver.Link.CallAsync("OpenExport", () => driver.Server.OpenExport(machine, snapshot, frozen.Key), cancellationToken));
            var left = new byte[offset - position];
            await TranslateAsync(() => driver.Link.CallAsync("ReadExport", () => Did(() =>
            {
                driver.Server.ReadExport(lease.Value, left);
                driver.Server.ReadExport(lease.Value, destination.Span);
            }), cancellationToken));
            position = offset + destination.Length;
        }
        finally
        {
            Volatile.Write(ref reading, 0);
        }
    }

    public async ValueTask CloseAsync(CancellationToken cancellationToken)
    {
        if (lease is { } open)
        {
            await driver.Link.CallAsync("CloseExport", () => driver.Server.CloseExport(open), cancellationToken);
            lease = null;
        }
    }
}

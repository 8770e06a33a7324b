using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms.VSphere;

/// <summary>A snapshot being read. The server tracks changes since every point by itself, so that all ends are one: it is removed.</summary>
internal sealed class VSphereCapture : ICapture
{
    private readonly VSphereHypervisor driver;
    private readonly PlatformMachine machine;
    private readonly string snapshot;
    private readonly IReadOnlyList<VSphereCapturedDisk> disks;
    private readonly ViewEnd end;

    public VSphereCapture(VSphereHypervisor driver, PlatformMachine machine, string snapshot, IReadOnlyList<VSphereCapturedDisk> disks, IReadOnlyList<DiskSummary> skipped)
    {
        (this.driver, this.machine, this.snapshot, this.disks, SkippedDisks) = (driver, machine, snapshot, disks, skipped);
        Configuration = VSphereHypervisor.Describe(machine, disks.Select(disk => disk.Disk));
        end = new ViewEnd((_, cancellationToken) => RemoveAsync(cancellationToken));
    }

    public MachineConfiguration Configuration { get; }

    public CaptureConsistency Consistency => CaptureConsistency.Crash;

    public string ConsistencyDetail => "a snapshot without quiescing";

    public IReadOnlyList<ICapturedDisk> Disks => disks;

    public IReadOnlyList<DiskSummary> SkippedDisks { get; }

    public ValueTask CommitAsync(CancellationToken cancellationToken) => end.EndAsync(ViewOutcome.Committed, cancellationToken);

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => end.EndAsync(ViewOutcome.Abandoned, cancellationToken);

    public ValueTask DetachAsync(CancellationToken cancellationToken) => end.EndAsync(ViewOutcome.Unknown, cancellationToken);

    public ValueTask DisposeAsync() => end.DisposeAsync();

    private async ValueTask RemoveAsync(CancellationToken cancellationToken)
    {
        foreach (var disk in disks)
        {
            await disk.CloseAsync(cancellationToken);
        }
        await driver.RemoveSnapshotAsync(machine.Id, snapshot, cancellationToken);
    }
}

/// <summary>One disk of a snapshot.</summary>
internal sealed class VSphereCapturedDisk : ICapturedDisk
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
    {
        (this.driver, this.machine, this.snapshot, this.frozen, this.since) = (driver, machine, snapshot, frozen, since);
        (Disk, Reason) = (disk, reason);
    }

    public DiskSummary Disk { get; }

    public bool ChangedOnly => since != "*";

    public string Reason { get; }

    public string BaseToken => frozen.ChangeId;

    public bool SequentialOnly => driver.Exports;

    public static async ValueTask<VSphereCapturedDisk> OpenAsync(
        VSphereHypervisor driver, CaptureRequest request, DiskSummary disk, string snapshot, VSphereFrozenDisk frozen, CancellationToken cancellationToken)
    {
        var (since, reason) = ("*", "read in full: no earlier recovery point is there to build on");
        if (request.Base is not null)
        {
            reason = "read in full: it was not part of the last recovery point";
            if (request.BaseTokens.GetValueOrDefault(disk.Id) is { Length: > 0 } token)
            {
                try
                {
                    await driver.Link.CallAsync("QueryChangedDiskAreas", () => driver.Server.QueryChangedDiskAreas(request.Machine, snapshot, frozen.Key, 0, token), cancellationToken);
                    (since, reason) = (token, "changed blocks only");
                }
                catch (FaultException fault) when (fault.Reason == FaultReason.InvalidArgument)
                {
                    reason = "read in full: its change id does not hold any more, since it was resized or reverted, or the host ended uncleanly";
                }
            }
        }
        return new VSphereCapturedDisk(driver, request.Machine, disk, snapshot, frozen, since, reason);
    }

    public async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
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

    public async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
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

    private static bool Did(Action work)
    {
        work();
        return true;
    }

    private async ValueTask<T> TranslateAsync<T>(Func<ValueTask<T>> call)
    {
        try
        {
            return await call();
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
        {
            throw new FaultException(FaultReason.SnapshotLost, $"The snapshot that disk {Disk.Name} is read from is gone: somebody removed it. The guest is unharmed; run again. ({fault.Message})", fault);
        }
    }
}

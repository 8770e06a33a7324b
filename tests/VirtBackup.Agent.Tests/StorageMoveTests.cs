using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Moving;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Common.V1;
using RestoreFinding = VirtBackup.Hypervisors.RestoreFinding;

namespace VirtBackup.Agent.Tests;

public sealed class StorageMoveTests
{
    private static readonly StorageMoveOptions Options = new() { Target = "/new", Format = "qcow2", BytesPerSecondMax = 5, KeepSource = true, Disks = { new Protocol.Common.V1.DiskMove { Name = "vda", Target = "/other" } } };

    [Fact]
    public async Task AMoveIsAskedForAndToldWithItsProgressAndItsInterruption()
    {
        using var rig = new Rig(1, Rig.RandomBytes(1, 1 << 10));
        var progress = new RunProgress();
        var result = await new StorageMoveRun(rig.Context, rig.Hypervisor, rig.Hypervisor.Machine, Options, progress).RunAsync(TestContext.Current.CancellationToken);
        Assert.Equal(("/new", "qcow2", 5L, true), (rig.Hypervisor.LastMove!.Target, rig.Hypervisor.LastMove.Format, rig.Hypervisor.LastMove.BytesPerSecondMax, rig.Hypervisor.LastMove.KeepSource));
        Assert.Equal([new Hypervisors.DiskMove("vda", "/other")], rig.Hypervisor.LastMove.Disks);
        Assert.Equal((150UL, 12_000UL, "/old/kept"), (result.BytesMoved, result.InterruptionUs, Assert.Single(result.KeptPaths)));
        Assert.Equal((2.0, 12_000UL), (Assert.Single(result.Disks).ElapsedSeconds, result.Disks[0].InterruptionUs));
        Assert.Equal((150UL, 150UL, "changing over"), (progress.ToMessage().BytesTotal, progress.ToMessage().BytesDone, progress.Phase));
    }

    [Fact]
    public async Task ACheckMeasuresUnlessItIsRefusedOrNotToDoSo()
    {
        using var rig = new Rig(1, Rig.RandomBytes(1, 1 << 10));
        var check = await CheckAsync(rig, Options);
        Assert.Equal((100UL, "a -> b", 100UL, 0.5), (check.DataBytes, check.Path, check.SampleBytes, check.SampleSeconds));
        Assert.Equal(0UL, (await CheckAsync(rig, new StorageMoveOptions { Target = "/new", SkipSample = true })).SampleBytes);
        rig.Hypervisor.MoveFindings = [new RestoreFinding("space", FindingSeverity.Blocks, "There is none.")];
        check = await CheckAsync(rig, Options);
        Assert.Equal((0UL, Protocol.Common.V1.RestoreFinding.Types.Severity.Blocks), (check.SampleBytes, Assert.Single(check.Findings).Severity));
        var fault = await Assert.ThrowsAsync<FaultException>(() => CheckAsync(rig, new StorageMoveOptions()));
        Assert.Contains("Name a folder", fault.Message, StringComparison.Ordinal);
    }

    private static Task<StorageMoveCheck> CheckAsync(Rig rig, StorageMoveOptions options) =>
        new StorageMoveRun(rig.Context, rig.Hypervisor, rig.Hypervisor.Machine, options, new RunProgress()).CheckAsync(TestContext.Current.CancellationToken);
}

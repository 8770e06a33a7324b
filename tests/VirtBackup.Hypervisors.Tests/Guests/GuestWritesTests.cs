using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Tests.Qemu;

namespace VirtBackup.Hypervisors.Tests.Guests;

public sealed class GuestWritesTests
{
    [Fact]
    public void Quantiles_lie_in_the_bins_that_hold_them()
    {
        var bins = new long[GuestWrites.BoundariesNs.Count + 1];
        (bins[10], bins[20], bins[^1]) = (98, 1, 1);
        var writes = new GuestWrites(100, 100_000_000, bins);
        Assert.Equal(TimeSpan.FromMilliseconds(1), writes.Mean);
        Assert.InRange(writes.Quantile(0.5)!.Value.TotalMicroseconds * 1000, GuestWrites.BoundariesNs[9], GuestWrites.BoundariesNs[10]);
        Assert.InRange(writes.Quantile(0.99)!.Value.TotalMicroseconds * 1000, GuestWrites.BoundariesNs[19], GuestWrites.BoundariesNs[20] + 1);
        Assert.True(writes.Quantile(1)!.Value.TotalMicroseconds * 1000 > GuestWrites.BoundariesNs[^1]);
        Assert.Equal((0, 0L), (writes.Since(writes).Operations, writes.Since(writes).Bins.Sum()));
        Assert.Null(GuestWrites.None.Mean);
        Assert.Null(GuestWrites.None.Quantile(0.5));
    }

    [Fact]
    public async Task Qemu_tells_what_the_guest_wrote_beside_a_capture_and_keeps_nothing()
    {
        await using var lab = await CaptureLab.BootAsync();
        await using (var meter = (await lab.Driver.OpenWriteMeterAsync(lab.Machine.Uuid, default))!)
        {
            var before = await meter.ReadAsync(default);
            await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()), default);
            await lab.WriteAsync("/data/a", 500);
            var during = (await meter.ReadAsync(default)).Since(before);
            Assert.InRange(during.Operations, 2, 10_000);
            Assert.Equal(during.Operations, during.Bins.Sum());
            Assert.True(during.Mean > TimeSpan.Zero && during.Quantile(1) >= during.Quantile(0.5));
        }
        var stats = await lab.Vm.QmpAsync("query-blockstats");
        Assert.DoesNotContain("histogram", stats.GetRawText(), StringComparison.Ordinal);

        // Another tool's histogram stays as it is.
        var device = (await lab.Vm.QmpAsync("query-block"))[0].GetProperty("qdev").GetString();
        await lab.Vm.QmpAsync("block-latency-histogram-set", $$"""{"id":"{{device}}","boundaries":[1000,2000]}""");
        await using (var meter = (await lab.Driver.OpenWriteMeterAsync(lab.Machine.Uuid, default))!)
        {
            Assert.Empty((await meter.ReadAsync(default)).Bins);
        }
        Assert.Contains("[1000, 2000]", (await lab.Vm.QmpAsync("query-blockstats")).GetRawText().Replace("1000,2000", "1000, 2000", StringComparison.Ordinal), StringComparison.Ordinal);
    }
}

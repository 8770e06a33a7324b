namespace VirtBackup.Hypervisors.Tests.Qemu;

public sealed class CaptureTests
{
    [Fact]
    public async Task A_chain_of_captures_holds_every_write_up_to_its_cut()
    {
        await using var lab = await CaptureLab.BootAsync();
        var first = CaptureLab.NewPoint();
        var full = await lab.BackUpAsync(first);
        await lab.AssertCleanAsync();
        Assert.Equal([first], await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));

        await lab.WriteAsync("/data/a", 2000);
        await lab.WriteAsync("/root/a", 500);
        var second = CaptureLab.NewPoint();
        var changed = await lab.BackUpAsync(second, first);
        Assert.InRange(changed, 2500 << 10, full / 2);
        Assert.Equal([second], await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));
        await lab.AssertCleanAsync();

        // Nothing written: still a valid increment.
        Assert.InRange(await lab.BackUpAsync(CaptureLab.NewPoint(), second), 0, changed);
    }
}

using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>A guest agent that is killed while its file systems are frozen, and begins again at once.</summary>
public sealed class LostGuestAgentTests
{
    private const string Kill = "kill -9 $(ps | grep '[o]rg.qemu.guest_agent.0' | awk '{ print $1 }')";

    private const string KillInTheFreeze = $"(while [ ! -e /var/run/qga.state.isfrozen ]; do :; done; sleep DELAY; {Kill} && : > /run/killed) </dev/null >/dev/null 2>&1 &";

    [Theory]
    [InlineData("0")]
    [InlineData("0.2")]
    public async Task A_guest_whose_agent_was_killed_in_the_freeze_is_thawed(string delay)
    {
        await using var lab = await LibvirtLab.BootAsync();
        (await lab.Domain.ExecAsync(KillInTheFreeze.Replace("DELAY", delay, StringComparison.Ordinal))).EnsureSuccess();
        await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint()), default))
        {
            await capture.AbandonAsync(default);
        }
        if (!await CanWriteAsync(lab, tenths: 100))
        {
            // libvirt took the agent that was killed for the guest's. Begun once more, as the message says, it is seen, and asked to thaw.
            (await lab.Domain.ExecAsync(Kill)).EnsureSuccess();
            Assert.True(await CanWriteAsync(lab, tenths: 600));
        }
    }

    private static async Task<bool> CanWriteAsync(LibvirtLab lab, int tenths) =>
        (await lab.Domain.ExecAsync(LabGuest.WriteWithin(tenths))).ExitCode == 0;
}

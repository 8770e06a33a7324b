namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>A guest agent that is killed while its file systems are frozen, and begins again at once.</summary>
public sealed class LostGuestAgentTests
{
    private const string Kill = "kill -9 $(ps | grep '[o]rg.qemu.guest_agent.0' | awk '{ print $1 }')";

    private const string KillInTheFreeze = $"(while [ ! -e /var/run/qga.state.isfrozen ]; do :; done; sleep DELAY; {Kill} && : > /run/killed) </dev/null >/dev/null 2>&1 &";

    // What waits for a frozen file system cannot be ended, so it is not waited for.
    private const string Probe =
        "rm -f /run/probe; (echo x > /data/probe && sync && : > /run/probe) </dev/null >/dev/null 2>&1 & " +
        "n=0; while [ ! -e /run/probe ]; do n=$((n + 1)); [ $n -lt TENTHS ] || exit 9; sleep 0.1; done";

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
        (await lab.Domain.ExecAsync(Probe.Replace("TENTHS", $"{tenths}", StringComparison.Ordinal))).ExitCode == 0;
}

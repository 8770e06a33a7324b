using VirtBackup.Core;
using VirtBackup.Hypervisors.Tests.Guests;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>A guest that is cut together with others: it stands still until all are cut, and goes on whatever becomes of them.</summary>
public sealed class TogetherTests
{
    private static readonly string[] All = ["ready", "prepared", "frozen", "cut", "held"];

    [Fact]
    public async Task A_guest_stands_still_until_all_are_cut_and_goes_on_whatever_happens()
    {
        await using var lab = await CaptureLab.BootAsync();
        Dictionary<string, string> reference = [];
        var gate = new TestGate(async (step, _) =>
        {
            Assert.Equal(step is "ready" or "prepared" ? "running" : "paused", await StatusAsync(lab));
            if (step == "frozen") reference = await lab.ReferenceAsync();
        });
        await using (var capture = await lab.Driver.BeginCaptureAsync(Request(lab, gate), default))
        {
            Assert.Equal(All, gate.Passed);
            Assert.Equal(CaptureConsistency.Filesystem, capture.Consistency);
            await lab.WriteAsync("/data/later", 500);
            await lab.ReadAsync(capture);
            lab.AssertContent(reference);
        }

        // Without a guest agent it stands still all the same, and a limit that is short is kept.
        lab.Machine = lab.Machine with { GuestAgentSocket = null };
        var silent = new TestGate((step, token) => step == "cut" ? Task.Delay(Timeout.Infinite, token) : Task.CompletedTask);
        var late = await FailAsync(lab, Request(lab, silent) with { FreezeLimit = TimeSpan.FromSeconds(2) });
        Assert.Contains("were not cut within 1.5 s", late.Message, StringComparison.Ordinal);
        lab.Machine = lab.Machine with { GuestAgentSocket = lab.Vm.GuestAgentPath };

        foreach (var failing in All[1..4])
        {
            var broken = new TestGate((step, _) => step == failing ? throw new FaultException(FaultReason.FailedPrecondition, "The other one failed.") : Task.CompletedTask);
            Assert.Equal("The other one failed.", (await FailAsync(lab, Request(lab, broken))).Message);
            Assert.DoesNotContain("held", broken.Passed);
        }
        var meddled = new TestGate(async (step, token) =>
        {
            if (step == "cut") await lab.Vm.QmpAsync("cont", cancellationToken: token);
        });
        await using (await lab.Driver.BeginCaptureAsync(Request(lab, meddled), default))
        {
            Assert.Equal("not held", meddled.Passed[^1]);
        }

        // One that somebody had paused stays so.
        await lab.Vm.QmpAsync("stop");
        var paused = new TestGate();
        await using (await lab.Driver.BeginCaptureAsync(Request(lab, paused), default))
        {
            Assert.Equal(All, paused.Passed);
            Assert.Equal("paused", await StatusAsync(lab));
        }
        await lab.AssertCleanAsync();
    }

    private static CaptureRequest Request(CaptureLab lab, ICutGate gate) => lab.Request(CaptureLab.NewPoint()) with { Gate = gate };

    private static async Task<FaultException> FailAsync(CaptureLab lab, CaptureRequest request)
    {
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(request, default));
        Assert.Equal("running", await StatusAsync(lab));
        Assert.Equal("thawed\n", (await lab.Vm.ExecAsync("echo thawed > /data/thawed && sync && cat /data/thawed")).EnsureSuccess());
        await lab.AssertCleanAsync();
        return fault;
    }

    private static async Task<string> StatusAsync(CaptureLab lab) => (await lab.Vm.QmpAsync("query-status")).GetProperty("status").GetString()!;
}

using System.Globalization;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>What tests do with a machine that a restore started.</summary>
internal static class StartedMachine
{
    /// <summary>What a command printed that its guest ran.</summary>
    public static async Task<string> ShellAsync(RestoredMachine machine, string line)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(1));
        await using var agent = await LabGuestAgent.ConnectAsync(machine.Details["guest agent socket"], limit.Token);
        return (await agent.ShellAsync(line, limit.Token)).EnsureSuccess();
    }

    public static async Task KillAsync(RestoredMachine machine)
    {
        using var process = System.Diagnostics.Process.GetProcessById(int.Parse(machine.Details["pid"], CultureInfo.InvariantCulture));
        process.Kill();
        await process.WaitForExitAsync();
    }
}

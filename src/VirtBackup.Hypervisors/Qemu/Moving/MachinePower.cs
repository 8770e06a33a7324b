using System.Diagnostics;
using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu.Comparing;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>Stops and starts one machine's QEMU. A stopped machine keeps its process, so that its last changes can be captured; <see cref="EndAsync"/> ends it.</summary>
internal sealed class MachinePower(QemuDriverContext context, QemuMachine machine)
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan EndTimeout = TimeSpan.FromSeconds(60);

    // States in which no instruction of the guest runs, and none does without being told to.
    private static readonly HashSet<string> Still = ["shutdown", "paused", "prelaunch", "guest-panicked", "internal-error", "io-error", "postmigrate"];

    // A guest that sleeps is woken by its own devices.
    private static readonly HashSet<string> Running = ["running", "suspended"];

    /// <summary>As QEMU names it; null: there is no process.</summary>
    public async Task<string?> ReadStatusAsync(CancellationToken cancellationToken)
    {
        if (!await QemuMonitors.IsListeningAsync(machine, cancellationToken))
        {
            return null;
        }
        await using var qmp = await context.OpenAsync(machine, cancellationToken);
        return await StatusOfAsync(qmp, cancellationToken);
    }

    /// <summary>Asks the guest to shut down, and keeps QEMU when it has.</summary>
    public async Task<StoppedMachine> StopAsync(StopRequest request, CancellationToken cancellationToken)
    {
        if (request.PowerOff && !await JsonLineSocket.IsListeningAsync(machine.QmpSocket, cancellationToken))
        {
            await KillAsync(cancellationToken);
        }
        if (await ReadStatusAsync(cancellationToken) is var status && IsStill(status))
        {
            return new StoppedMachine(HasShutDown(status), WasRunning: false);
        }
        if (request.PowerOff)
        {
            await HoldAsync(cancellationToken);
            return new StoppedMachine(Graceful: false, WasRunning: true);
        }
        try
        {
            await SetShutdownActionAsync("pause", cancellationToken);
            return await ShutDownAsync(request, cancellationToken);
        }
        catch
        {
            // A guest that shuts down by itself later is to end its process, as it did before.
            await TryResetShutdownActionAsync();
            throw;
        }
    }

    private async Task<StoppedMachine> ShutDownAsync(StopRequest request, CancellationToken cancellationToken)
    {
        await AskToShutDownAsync(request.Timeout, cancellationToken);
        var begun = context.Time.GetTimestamp();
        while (context.Time.GetElapsedTime(begun) < request.Timeout)
        {
            if (await ReadStatusAsync(cancellationToken) is var now && IsStill(now))
            {
                return new StoppedMachine(HasShutDown(now), WasRunning: true);
            }
            await Task.Delay(PollInterval, context.Time, cancellationToken);
        }
        if (request.Force)
        {
            await HoldAsync(cancellationToken);
            return new StoppedMachine(Graceful: false, WasRunning: true);
        }
        throw new FaultException(FaultReason.FailedPrecondition,
            $"The guest of {machine.Name} did not shut down within {request.Timeout.TotalSeconds:0} s and runs on. Shut it down from inside, or allow its power to be cut.");
    }

    /// <summary>Lets the machine go on where its process still is, and starts one otherwise.</summary>
    /// <param name="launch">How a process is started: script and log.</param>
    /// <returns>It was running already.</returns>
    public async Task<bool> StartAsync(Func<(string Script, string Log)> launch, CancellationToken cancellationToken)
    {
        if (await JsonLineSocket.IsListeningAsync(machine.QmpSocket, cancellationToken))
        {
            return await ContinueAsync(cancellationToken);
        }
        if (IdentityComparison.ListProcesses().FirstOrDefault(process => process.Uuid == machine.Uuid) is { Pid: > 0 } other)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"{machine.Name} is not started: a QEMU process of this host (pid {other.Pid}) runs with its UUID.");
        }
        var (script, log) = launch();
        using var process = ProcessRunner.Start("setsid", ["sh", "-c", "exec \"$0\" </dev/null >>\"$1\" 2>&1", script, log], redirect: false);
        try
        {
            var started = context.Time.GetTimestamp();
            while (!await JsonLineSocket.IsListeningAsync(machine.QmpSocket, cancellationToken))
            {
                if ((process.HasExited && process.ExitCode != 0) || context.Time.GetElapsedTime(started) > context.Options.LaunchTimeout)
                {
                    throw new FaultException(FaultReason.HypervisorUnavailable, $"QEMU did not start {machine.Name}: {LastWordsIn(log)} Correct {script}.");
                }
                await Task.Delay(PollInterval, context.Time, cancellationToken);
            }
            await ContinueAsync(cancellationToken);
            return false;
        }
        catch
        {
            // Whoever hears of the failure may start the machine elsewhere.
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
                await process.WaitForExitAsync(CancellationToken.None);
            }
            throw;
        }
    }

    /// <summary>Ends the process of a machine that stands still; nothing happens when there is none.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the machine runs.</exception>
    public async Task EndAsync(CancellationToken cancellationToken)
    {
        if (await JsonLineSocket.IsListeningAsync(machine.QmpSocket, cancellationToken))
        {
            await using var qmp = await context.OpenAsync(machine, cancellationToken);
            if (await StatusOfAsync(qmp, cancellationToken) is var status && !Still.Contains(status))
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"{machine.Name} is running on this host ('{status}'). Stop it first.");
            }
            await qmp.ExecuteAsync("quit", null, cancellationToken);
        }
        var begun = context.Time.GetTimestamp();
        while (FindProcess() is { } pid)
        {
            if (context.Time.GetElapsedTime(begun) > EndTimeout)
            {
                throw new FaultException(FaultReason.HypervisorUnavailable, $"The QEMU process of {machine.Name} (pid {pid}) does not end.");
            }
            await Task.Delay(PollInterval, context.Time, cancellationToken);
        }
    }

    private async Task<bool> ContinueAsync(CancellationToken cancellationToken)
    {
        await using var qmp = await context.OpenAsync(machine, cancellationToken);
        var status = await StatusOfAsync(qmp, cancellationToken);
        if (Running.Contains(status))
        {
            return true;
        }
        if (!Still.Contains(status))
        {
            throw Stuck(status);
        }
        if (status is not ("paused" or "prelaunch"))
        {
            await qmp.ExecuteAsync("system_reset", null, cancellationToken);
        }
        await qmp.ExecuteAsync("set-action", new JsonObject { ["shutdown"] = "poweroff" }, cancellationToken);
        await qmp.ExecuteAsync("cont", null, cancellationToken);
        return await StatusOfAsync(qmp, cancellationToken) is var now && Running.Contains(now) ? false : throw Stuck(now);
    }

    private FaultException Stuck(string status) =>
        new(FaultReason.HypervisorUnavailable, $"QEMU does not let {machine.Name} run: it is in the state '{status}'.");

    private async Task HoldAsync(CancellationToken cancellationToken)
    {
        await using var qmp = await context.OpenAsync(machine, cancellationToken);
        await qmp.ExecuteAsync("stop", null, cancellationToken);
    }

    private async Task SetShutdownActionAsync(string action, CancellationToken cancellationToken)
    {
        await using var qmp = await context.OpenAsync(machine, cancellationToken);
        await qmp.ExecuteAsync("set-action", new JsonObject { ["shutdown"] = action }, cancellationToken);
    }

    private async Task TryResetShutdownActionAsync()
    {
        try
        {
            await SetShutdownActionAsync("poweroff", CancellationToken.None);
        }
        catch (FaultException)
        {
            // The first failure tells more.
        }
    }

    // The agent's order works in guests that ignore the button; its success has no answer.
    private async Task AskToShutDownAsync(TimeSpan timeout, CancellationToken cancellationToken)
    {
        if (machine.GuestAgentSocket is { } socket)
        {
            try
            {
                await using var agent = await GuestAgentClient.ConnectAsync(socket, context.Time, context.Entropy, context.Options.GuestAgentTimeout, cancellationToken);
                await agent.ExecuteAsync("guest-shutdown", new JsonObject { ["mode"] = "powerdown" }, TimeSpan.FromSeconds(Math.Min(1, timeout.TotalSeconds)), cancellationToken);
            }
            catch (FaultException)
            {
                // Not there, or obeying without an answer: the button does no harm then.
            }
        }
        await using var qmp = await context.OpenAsync(machine, cancellationToken);
        await qmp.ExecuteAsync("system_powerdown", null, cancellationToken);
    }

    // A process that was started and whose monitor never came.
    private async Task KillAsync(CancellationToken cancellationToken)
    {
        if (FindProcess() is { } pid)
        {
            try
            {
                using var process = Process.GetProcessById(pid);
                process.Kill();
                await process.WaitForExitAsync(cancellationToken);
            }
            catch (Exception gone) when (gone is ArgumentException or InvalidOperationException)
            {
                // It has ended itself.
            }
        }
    }

    private int? FindProcess() => QemuMonitors.FindProcess(machine.QmpSocket);

    private static bool IsStill(string? status) => status is null || Still.Contains(status);

    private static bool HasShutDown(string? status) => status is null or "shutdown";

    private static async Task<string> StatusOfAsync(QmpClient qmp, CancellationToken cancellationToken) =>
        (await qmp.ExecuteAsync("query-status", null, cancellationToken)).Text("status");

    private static string LastWordsIn(string log)
    {
        try
        {
            return ProcessRunner.LastLines(File.ReadAllText(log), 3) + ".";
        }
        catch (IOException)
        {
            return "it left no message.";
        }
    }
}

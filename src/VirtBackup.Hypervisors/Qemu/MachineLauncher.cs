using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Tpm;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Writes how a restored machine is started, for people and for the driver, and starts it.</summary>
internal sealed class MachineLauncher(QemuDriverContext context, RestorePlan plan, RestoreRequest request, LaunchFiles? place = null)
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan ThawTimeout = TimeSpan.FromSeconds(5);
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase };
    private readonly LaunchFiles files = place ?? LaunchFiles.For(request, plan.Images);
    private string? thaw;

    public bool HasRecord => File.Exists(files.Record);

    public void WriteRecord()
    {
        var record = new
        {
            request.Name, Uuid = plan.Launch.Uuid.ToUuidString(), Point = request.Point.ToString(), plan.Executable, plan.WorkingDirectory, plan.Launch.Arguments,
            plan.Launch.QmpSocket, plan.Launch.GuestAgentSocket, Disks = plan.Images.Select(image => new { Name = image.DiskName, File = image.NewFile, image.Format }),
        };
        DurableFile.Write(files.Record, JsonSerializer.SerializeToUtf8Bytes(record, Indented));
        var script = new StringBuilder("#!/bin/sh\n# Starts the machine in the foreground.\n");
        script.Append("cd ").Append(ShellWord.Quote(plan.WorkingDirectory)).Append(" || exit 1\n");
        if (plan.Tpm is { Command: { } emulator } tpm)
        {
            script.Append("# The machine's TPM: its emulator ends with the machine.\ngrep -qF ").Append(ShellWord.Quote(" " + tpm.Socket.New)).Append(" /proc/net/unix || ")
                .Append(TpmEmulator.Program).Append(' ').AppendJoin(' ', emulator.Select(ShellWord.Quote)).Append(" || exit 1\n");
        }
        script.Append("exec ").Append(ShellWord.Quote(plan.Executable));
        foreach (var argument in plan.Launch.Arguments)
        {
            script.Append(argument.StartsWith('-') ? " \\\n  " : " ").Append(ShellWord.Quote(argument));
        }
        // For what this driver adds when the machine is to go on from a running state.
        DurableFile.Write(files.Script, Encoding.UTF8.GetBytes(script.Append(" \\\n  \"$@\"\n").ToString()));
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(files.Script, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }

    /// <summary>The command line as the record on disk has it now.</summary>
    public ArgvDocument ReadRecord()
    {
        using var record = JsonDocument.Parse(File.ReadAllBytes(files.Record));
        var root = record.RootElement;
        return new ArgvDocument(root.GetProperty("executable").GetString()!, root.GetProperty("workingDirectory").GetString()!,
            [.. root.GetProperty("arguments").EnumerateArray().Select(argument => argument.GetString()!)], [], plan.Launch.QmpSocket, plan.Launch.GuestAgentSocket);
    }

    /// <summary>Starts QEMU in a session of its own, so that it outlives the agent, and sends the guest a thaw.</summary>
    /// <returns>Its process id.</returns>
    /// <exception cref="FaultException">It ended at once, or its monitor does not answer; the message holds what it said last. No process is left.</exception>
    public async Task<int> StartAsync(CancellationToken cancellationToken)
    {
        var served = plan.Tpm is { } tpm && ListeningProcess.IsListening(tpm.Socket.New);
        using var process = ProcessRunner.Start("setsid", ["sh", "-c", "log=$1; shift; exec \"$0\" \"$@\" </dev/null >>\"$log\" 2>&1", files.Script, files.Log, .. plan.State is null ? Array.Empty<string>() : ["-incoming", "defer"]], redirect: false);
        try
        {
            await WaitForMonitorAsync(process, cancellationToken);
            await ResumeAsync(cancellationToken);
            await ThawAsync(cancellationToken);
            return process.Id;
        }
        catch
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
                await process.WaitForExitAsync(CancellationToken.None);
            }
            if (!served)
            {
                await EndEmulatorAsync();
            }
            throw;
        }
    }

    // It detaches itself when it starts, and waits for a machine that never came.
    private async Task EndEmulatorAsync()
    {
        if (plan.Tpm is { } tpm && TpmEmulator.FindBySocket(tpm.Socket.New) is { } emulator)
        {
            try
            {
                using var process = Process.GetProcessById(emulator.Pid);
                process.Kill();
                await process.WaitForExitAsync(CancellationToken.None);
            }
            catch (Exception failure) when (failure is ArgumentException or InvalidOperationException or System.ComponentModel.Win32Exception)
            {
                // It has ended itself with the machine's connection.
            }
        }
    }

    private async Task WaitForMonitorAsync(Process process, CancellationToken cancellationToken)
    {
        var started = context.Time.GetTimestamp();
        while (true)
        {
            try
            {
                await using var qmp = await QmpClient.ConnectAsync(
                    plan.Launch.QmpSocket, context.Time, context.Options.GreetingTimeout, context.Options.CommandTimeout, cancellationToken);
                return;
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.HypervisorUnavailable)
            {
                if (process.HasExited || context.Time.GetElapsedTime(started) > context.Options.LaunchTimeout)
                {
                    throw new FaultException(FaultReason.HypervisorUnavailable,
                        $"The disks of {request.Name} are restored, but QEMU did not start: {LastWords()} Correct {files.Script} and start it by hand.", fault);
                }
            }
            await Task.Delay(PollInterval, context.Time, cancellationToken);
        }
    }

    private async Task ResumeAsync(CancellationToken cancellationToken)
    {
        if (plan.State is null)
        {
            return;
        }
        try
        {
            await using var qmp = await QmpClient.ConnectAsync(
                plan.Launch.QmpSocket, context.Time, context.Options.GreetingTimeout, context.Options.CommandTimeout, cancellationToken);
            await new StateLoad(plan.State, context.Time).LoadAsync(qmp, cancellationToken);
        }
        catch (FaultException fault)
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                $"The disks of {request.Name} are restored, but its running state could not be loaded: {fault.Message} QEMU said: {LastWords()} {files.Script} boots the machine without it.", fault);
        }
    }

    // A guest that was frozen for the cut may have kept that state on its disk: its agent then refuses everything but a thaw.
    private async Task ThawAsync(CancellationToken cancellationToken)
    {
        if (plan.Launch.GuestAgentSocket is not { } socket)
        {
            return;
        }
        try
        {
            // The request waits in the socket until the guest has booted and its agent reads it.
            await using var agent = await GuestAgentClient.ConnectAsync(socket, context.Time, context.Entropy, context.Options.GuestStartTimeout, cancellationToken);
            var thawed = await agent.ThawAsync(ThawTimeout, cancellationToken);
            thaw = $"sent, {thawed} file systems were frozen";
        }
        catch (FaultException fault)
        {
            thaw = $"not confirmed: {fault.Message}";
        }
    }

    private string LastWords()
    {
        try
        {
            return ProcessRunner.LastLines(File.ReadAllText(files.Log), 3) + ".";
        }
        catch (IOException)
        {
            return "it left no message.";
        }
    }

    /// <summary>The restored machine.</summary>
    /// <param name="pid">Of its process; null: it was not started.</param>
    public RestoredMachine Describe(int? pid) => new(plan.Launch.Uuid, request.Name, pid is not null, Details(pid))
    {
        Guest = pid is not null && plan.Launch.GuestAgentSocket is { } socket
            ? new RestoredGuest(async (limit, token) => await GuestAgentClient.ConnectAsync(socket, context.Time, context.Entropy, limit, token), context.Time) : null,
    };

    private Dictionary<string, string> Details(int? pid)
    {
        var details = new Dictionary<string, string>(StringComparer.Ordinal) { ["qmp socket"] = plan.Launch.QmpSocket };
        if (request.Folder.Length > 0)
        {
            details["folder"] = request.Folder;
        }
        if (File.Exists(files.Script))
        {
            details["launch script"] = files.Script;
        }
        if (plan.Launch.GuestAgentSocket is { } agent)
        {
            details["guest agent socket"] = agent;
        }
        if (plan.State is not null)
        {
            details["running state"] = "the machine went on from that of the recovery point";
        }
        if (thaw is not null)
        {
            details["thaw"] = thaw;
        }
        if (pid is { } id)
        {
            details["pid"] = id.ToString(CultureInfo.InvariantCulture);
        }
        if (plan.Tpm is { } tpm)
        {
            details["tpm state"] = tpm.Folder;
        }
        foreach (var image in plan.Images)
        {
            details[$"disk {image.DiskName}"] = image.NewFile;
        }
        return details;
    }
}

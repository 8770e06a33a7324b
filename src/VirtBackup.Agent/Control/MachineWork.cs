using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Agent.Control;

/// <summary>Stops, starts and retires machines for jobs. The caller serialises what concerns one machine.</summary>
internal sealed class MachineWork(IReadOnlyList<IHypervisor> hypervisors, CaptureTools tools)
{
    private const int PathsMax = 1024;
    private static readonly TimeSpan TimeoutDefault = TimeSpan.FromSeconds(120);

    public async Task<StopMachineResult> StopAsync(Id16 machine, StopMachineTask task, RunProgress progress, CancellationToken cancellationToken)
    {
        progress.Enter("stopping the machine");
        var begun = tools.Time.GetTimestamp();
        var options = task.Options ?? new Protocol.Common.V1.StopOptions();
        var timeout = options.TimeoutSeconds > 0 ? TimeSpan.FromSeconds(options.TimeoutSeconds) : TimeoutDefault;
        var stopped = await (await FindAsync(machine, cancellationToken)).StopAsync(machine, new StopRequest(timeout, options.Force, options.PowerOff), cancellationToken);
        return new StopMachineResult { Graceful = stopped.Graceful, WasRunning = stopped.WasRunning, ElapsedSeconds = tools.Time.GetElapsedTime(begun).TotalSeconds };
    }

    public async Task<StartMachineResult> StartAsync(Id16 machine, RunProgress progress, CancellationToken cancellationToken)
    {
        progress.Enter("starting the machine");
        var begun = tools.Time.GetTimestamp();
        var control = await FindAsync(machine, cancellationToken);
        // What is started now inherits the priority of whoever starts it.
        using var urgent = tools.BeginUrgent?.Invoke();
        var wasRunning = await control.StartAsync(machine, cancellationToken);
        return new StartMachineResult { WasRunning = wasRunning, ElapsedSeconds = tools.Time.GetElapsedTime(begun).TotalSeconds };
    }

    public async Task<RetireMachineResult> RetireAsync(Id16 machine, RetireMachineTask task, RunProgress progress, CancellationToken cancellationToken)
    {
        progress.Enter(task.Undo ? "bringing the machine back" : task.Delete ? "removing the machine" : "retiring the machine");
        if (task.Delete && await TryFindAsync(machine, cancellationToken) is null)
        {
            return new RetireMachineResult { Retired = true };
        }
        RetiredMachine retired;
        try
        {
            retired = await (await FindAsync(machine, cancellationToken)).RetireAsync(machine, new RetireRequest(task.Delete, task.Undo, task.Folder), cancellationToken);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine's files cannot be renamed or removed: {failure.Message} Bring its storage in order, then try again.", failure);
        }
        var result = new RetireMachineResult { Retired = retired.Retired };
        result.RemovedPaths.Add(retired.Removed.Take(PathsMax));
        result.KeptPaths.Add(retired.Kept.Take(PathsMax));
        foreach (var path in retired.Removed)
        {
            progress.Log($"Removed {path}.");
        }
        foreach (var path in task.Delete ? retired.Kept : [])
        {
            progress.Log($"{path} stays: it holds files that are not known to be the machine's.");
        }
        return result;
    }

    private async Task<IMachineControl> FindAsync(Id16 machine, CancellationToken cancellationToken) =>
        await TryFindAsync(machine, cancellationToken)
        ?? throw new FaultException(FaultReason.NotFound, $"This host has no machine {machine.ToUuidString()} that can be stopped and started by the agent.");

    private async Task<IMachineControl?> TryFindAsync(Id16 machine, CancellationToken cancellationToken)
    {
        foreach (var control in hypervisors.Select(static hypervisor => hypervisor.Control).OfType<IMachineControl>())
        {
            if (await control.KnowsAsync(machine, cancellationToken))
            {
                return control;
            }
        }
        return null;
    }
}

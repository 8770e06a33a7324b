using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Restore.Starting;

/// <summary>
/// The start of a machine that needs others: waits with whole disks until the gate opens, then asks the machine again and again
/// whether it is ready. For one restore.
/// </summary>
public sealed class OrderedStart(StartGate gate, ReadinessProbe? probe, ReadinessProbes probes, Func<IDisposable>? beginUrgent, RunProgress progress, TimeProvider time) : IDisposable
{
    private static readonly TimeSpan TimeoutDefault = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan IntervalDefault = TimeSpan.FromSeconds(1);

    private IDisposable? _urgent;
    private long? _opened;

    /// <summary>When the disks were whole, by the clock's timestamp; null: they are not yet.</summary>
    public long? Restored { get; private set; }

    /// <summary>Before anything is restored.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: this agent does not have the probe.</exception>
    public void Require() => probes.Require(probe);

    /// <summary>Waits before the gate; for <see cref="RestoreRequest.StartGate"/>.</summary>
    public async ValueTask<bool> PassAsync(CancellationToken cancellationToken)
    {
        Restored = time.GetTimestamp();
        progress.Reach(StartStage.Restored, "waiting for what it needs");
        if (!await gate.WaitAsync(cancellationToken))
        {
            progress.Enter("staying off");
            return false;
        }
        _opened = time.GetTimestamp();
        progress.Reach(StartStage.Starting, "starting the machine");
        // What is started now inherits the priority of whoever starts it.
        _urgent = beginUrgent?.Invoke();
        return true;
    }

    /// <summary>Waits until the machine is ready.</summary>
    /// <returns>Seconds from the open gate until then; 0: it stays off, as told.</returns>
    /// <exception cref="FaultException">It is not started by its platform, or not ready in time; in that case it runs on.</exception>
    public async Task<double> FinishAsync(RestoredMachine machine, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(machine);
        Dispose();
        if (Restored is null && await PassAsync(cancellationToken))
        {
            Dispose();
            throw new FaultException(FaultReason.Unsupported, $"The disks of {machine.Name} are restored, but machines of its platform are not started by the agent. Start it by hand, and restore what needs it then.");
        }
        if (_opened is not { } opened)
        {
            return 0;
        }
        var timeout = probe is { TimeoutMs: > 0 } ? TimeSpan.FromMilliseconds(probe.TimeoutMs) : TimeoutDefault;
        var interval = probe is { IntervalMs: > 0 } ? TimeSpan.FromMilliseconds(probe.IntervalMs) : IntervalDefault;
        progress.Reach(StartStage.Probing, "waiting until it is ready");
        var told = "";
        while (await probes.TryAsync(probe, machine, cancellationToken) is { } problem)
        {
            if (problem != told)
            {
                progress.Log($"not ready yet: {problem}");
                told = problem;
            }
            if (time.GetElapsedTime(opened) + interval > timeout)
            {
                throw new FaultException(FaultReason.Unavailable, $"{machine.Name} was started, but was not ready within {timeout.TotalSeconds:0.#} s: {problem}. It runs on; nothing that needs it is started.");
            }
            await Task.Delay(interval, time, cancellationToken);
        }
        var seconds = time.GetElapsedTime(opened).TotalSeconds;
        progress.Log(string.Create(System.Globalization.CultureInfo.InvariantCulture, $"ready after {seconds:0.0} s"));
        return seconds;
    }

    /// <summary>The machine is started, or is not going to be: the agent gives way again.</summary>
    public void Dispose() => Interlocked.Exchange(ref _urgent, null)?.Dispose();
}

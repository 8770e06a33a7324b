namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>The highest resident memory during one work, in KiB.</summary>
/// <param name="Helpers">By program, of what the agent or the controller started; as far as seen in time.</param>
internal sealed record WorkPeaks(string Work, long Agent, long Controller, IReadOnlyDictionary<string, long> Helpers, TimeSpan Duration);

/// <summary>Watches both services and their helpers while something is done. One work at a time.</summary>
internal sealed class PeakWatch(ServiceMeter agent, ServiceMeter controller)
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);
    private readonly Dictionary<string, long> _helpers = new(StringComparer.Ordinal);

    /// <param name="beforeReading">Done when the work is done and before its peaks are read.</param>
    public async Task<WorkPeaks> MeasureAsync(string name, Func<Task> work, Func<Task> beforeReading)
    {
        _helpers.Clear();
        agent.Reset();
        controller.Reset();
        var began = System.Diagnostics.Stopwatch.StartNew();
        using var done = new CancellationTokenSource();
        var sampling = SampleAsync(done.Token);
        try
        {
            await work();
        }
        finally
        {
            await done.CancelAsync();
            await sampling;
        }
        var duration = began.Elapsed;
        await beforeReading();
        return new WorkPeaks(name, agent.Peak(), controller.Peak(), new Dictionary<string, long>(_helpers), duration);
    }

    private async Task SampleAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        while (!cancellationToken.IsCancellationRequested)
        {
            agent.Sample();
            controller.Sample();
            foreach (var (child, parent) in ProcessTable.ChildrenOf(agent.Pid, controller.Pid)) Remember(child, ProcessTable.ProgramOf(parent));
            await Task.Delay(Interval, cancellationToken).ContinueWith(static _ => { }, TaskScheduler.Default);
        }
    }

    private void Remember(int child, string? parentProgram)
    {
        // Between fork and exec a child looks like its parent.
        if (ProcessTable.ProgramOf(child) is not { } program || program == parentProgram || ProcessTable.KiBOf(child, "VmHWM") is not { } peak) return;
        var name = Path.GetFileName(program);
        _helpers[name] = Math.Max(peak, _helpers.GetValueOrDefault(name));
    }
}

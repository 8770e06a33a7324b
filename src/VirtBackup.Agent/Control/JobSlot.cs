using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Restore.Starting;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Control;

/// <summary>One assigned job of this agent: running, or finished and kept until the controller no longer lists it.</summary>
/// <param name="news">Called when there is something to report.</param>
internal sealed class JobSlot(Job job, Action news, CancellationToken agentStopping) : IDisposable
{
    private readonly CancellationTokenSource _stop = CancellationTokenSource.CreateLinkedTokenSource(agentStopping);

    public Job Job => job;

    public RunProgress Progress { get; } = new() { HasNews = news };

    /// <summary>Where it waits for the machines of its group, if it has one.</summary>
    public GroupGate Gate { get; } = new(news);

    /// <summary>Before the start of a machine that needs others.</summary>
    public StartGate StartGate { get; } = new();

    public CancellationToken Stopping => _stop.Token;

    /// <summary>The operator asked for the end; otherwise a stop means that the controller took the job back.</summary>
    public bool CancelRequested { get; private set; }

    /// <summary>Completes when the job's work has ended, whatever its outcome.</summary>
    public Task Ended { get; set; } = Task.CompletedTask;

    /// <summary>The last report, once there is one.</summary>
    public JobReport? Final { get; set; }

    /// <summary>The connection to which the final report was sent.</summary>
    public object? FinalSentTo { get; set; }

    public void Cancel()
    {
        CancelRequested = true;
        Withdraw();
    }

    /// <summary>Stops the work; nothing happens when it has ended.</summary>
    public void Withdraw()
    {
        try
        {
            _stop.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // The work has ended by itself.
        }
    }

    public JobReport RunningReport()
    {
        var report = new JobReport { JobId = job.JobId, Attempt = job.Attempt, State = JobState.Running, Progress = Progress.ToMessage(), Survey = Progress.Survey };
        report.LogLines.AddRange(Progress.TakeLog());
        TellCut(report);
        return report;
    }

    /// <summary>Adds how far the cut of its group has come.</summary>
    public void TellCut(JobReport report) => (report.CutStep, report.CutHeld) = Gate.State;

    public void Dispose() => _stop.Dispose();
}

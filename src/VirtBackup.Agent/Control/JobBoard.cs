using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Agent.Control;

/// <summary>
/// The jobs of this agent, held to the controller's newest list. A finished job's report is repeated on every new
/// connection until the controller no longer lists the job. Safe for concurrent use.
/// </summary>
internal sealed class JobBoard(JobWork work) : IDisposable
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, JobSlot> _slots = [];
    private readonly HashSet<JobSlot> _running = [];
    private readonly CancellationTokenSource _stopping = new();
    private readonly AsyncSignal _news = new();
    private readonly AsyncSignal _machines = new();

    public IReadOnlyList<Job> ListJobs()
    {
        lock (_gate)
        {
            return [.. _slots.Values.Select(slot => slot.Job)];
        }
    }

    /// <summary>Starts what is new, cancels what is to be cancelled, withdraws what is no longer listed.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: a job is listed twice.</exception>
    public void Apply(Assignments assignments)
    {
        var listed = new Dictionary<string, Job>(StringComparer.Ordinal);
        foreach (var job in assignments.Jobs)
        {
            if (!listed.TryAdd(job.JobId, job))
            {
                throw FaultException.Malformed($"The controller assigned job {job.JobId} twice.");
            }
        }
        var withdrawn = new List<JobSlot>();
        var cancelled = new List<JobSlot>();
        lock (_gate)
        {
            foreach (var slot in _slots.Values.Where(slot => !listed.TryGetValue(slot.Job.JobId, out var job) || job.Attempt > slot.Job.Attempt).ToArray())
            {
                _slots.Remove(slot.Job.JobId);
                withdrawn.Add(slot);
            }
            foreach (var job in listed.Values)
            {
                if (!_slots.TryGetValue(job.JobId, out var slot))
                {
                    slot = new JobSlot(job, _news.Set, _stopping.Token);
                    _slots.Add(job.JobId, slot);
                    _running.Add(slot);
                    slot.Ended = RunAsync(slot);
                }
                slot.Gate.Pass(job.CutStepPassed);
                slot.StartGate.Set(job.Restore?.Start);
                if (job.Cancel && slot.Final is null)
                {
                    cancelled.Add(slot);
                }
            }
        }
        // Outside the gate: stopping runs code of the jobs.
        withdrawn.ForEach(slot => slot.Withdraw());
        cancelled.ForEach(slot => slot.Cancel());
        _news.Set();
    }

    /// <summary>Reports due on this connection.</summary>
    public IReadOnlyList<JobReport> TakeReports(object connection)
    {
        lock (_gate)
        {
            var reports = new List<JobReport>();
            foreach (var slot in _slots.Values)
            {
                if (slot.Final is null)
                {
                    reports.Add(slot.RunningReport());
                }
                else if (!ReferenceEquals(slot.FinalSentTo, connection))
                {
                    slot.FinalSentTo = connection;
                    reports.Add(slot.Final);
                }
            }
            return reports;
        }
    }

    /// <summary>The link has broken: guests that stand still for their group are let go on, other work goes on.</summary>
    public void BreakGates()
    {
        lock (_gate)
        {
            foreach (var slot in _slots.Values)
            {
                slot.Gate.Break();
            }
        }
    }

    /// <summary>Waits for a change, at most <paramref name="limit"/>.</summary>
    public Task WaitForNewsAsync(TimeSpan limit, TimeProvider time, CancellationToken cancellationToken) => WaitAsync(_news, limit, time, cancellationToken);

    /// <summary>Waits for the end of a job that makes, moves, starts, stops or removes a machine, at most <paramref name="limit"/>.</summary>
    public Task WaitForMachinesAsync(TimeSpan limit, TimeProvider time, CancellationToken cancellationToken) => WaitAsync(_machines, limit, time, cancellationToken);

    private static async Task WaitAsync(AsyncSignal signal, TimeSpan limit, TimeProvider time, CancellationToken cancellationToken)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        await using var timer = time.CreateTimer(static state => ((CancellationTokenSource)state!).Cancel(), timeout, limit, Timeout.InfiniteTimeSpan);
        try
        {
            await signal.WaitAsync(timeout.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // The limit passed: what is due periodically is due.
        }
    }

    /// <summary>Stops all work and waits for it, so that no machine keeps a view.</summary>
    public async Task StopAsync()
    {
        await _stopping.CancelAsync();
        Task[] ended;
        lock (_gate)
        {
            // Those of withdrawn jobs, too, which may still be putting their machines in order.
            ended = [.. _running.Select(slot => slot.Ended)];
        }
        await Task.WhenAll(ended);
    }

    public void Dispose() => _stopping.Dispose();

    private async Task RunAsync(JobSlot slot)
    {
        await Task.Yield();
        var report = await work.RunAsync(slot);
        lock (_gate)
        {
            slot.Final = report;
            _running.Remove(slot);
        }
        _news.Set();
        if (slot.Job.TaskCase is Job.TaskOneofCase.Restore or Job.TaskOneofCase.MoveStorage or Job.TaskOneofCase.StopMachine or Job.TaskOneofCase.StartMachine or Job.TaskOneofCase.RetireMachine)
        {
            _machines.Set();
        }
        slot.Dispose();
    }
}

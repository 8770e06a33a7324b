using VirtBackup.Catalog;
using VirtBackup.Core;

namespace VirtBackup.Controller.Control;

/// <summary>A job that somebody else's work needs done on an agent.</summary>
/// <param name="Key">The same key makes one job, however often it is asked for.</param>
internal sealed record Errand(string Key, JobKind Kind, string Agent, Id16 VmId, string VmName, byte[] Options)
{
    public Id16 PointId { get; init; }

    /// <inheritdoc cref="JobRow.Start"/>
    public byte[] Start { get; init; } = [];

    /// <summary>How long the agent may be away; null: for ever.</summary>
    public TimeSpan? Patience { get; init; }
}

/// <summary>Has agents do jobs and waits for their ends. Safe for concurrent use.</summary>
internal sealed class AgentErrands(JobService jobs, AgentConnections connections, IEntropy entropy, TimeProvider time)
{
    private static readonly TimeSpan LookInterval = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan BusyInterval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan BusyMax = TimeSpan.FromMinutes(10);

    /// <summary>The job when it is over, however it ended.</summary>
    /// <param name="watch">Told of every change of the job.</param>
    /// <param name="cancel">Has the job cancelled; its end is awaited all the same.</param>
    /// <param name="stopping">Leaves the job alone: who asks again later finds it.</param>
    public async Task<JobRow> RunAsync(Errand errand, Func<JobRow, ValueTask> watch, CancellationToken cancel, CancellationToken stopping)
    {
        var job = await CreateAsync(errand, cancel, stopping);
        using var watching = CancellationTokenSource.CreateLinkedTokenSource(stopping);
        var guarding = GuardAsync(job, errand, cancel, watching.Token);
        try
        {
            await foreach (var now in jobs.WatchAsync(job.JobId, stopping))
            {
                job = now;
                await watch(now);
            }
            return job;
        }
        finally
        {
            await watching.CancelAsync();
            await guarding.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    // A backup that somebody else started is waited for.
    private async Task<JobRow> CreateAsync(Errand errand, CancellationToken cancel, CancellationToken stopping)
    {
        var begun = time.GetTimestamp();
        while (true)
        {
            cancel.ThrowIfCancellationRequested();
            try
            {
                return await jobs.CreateAsync(
                    new JobRow
                    {
                        JobId = Id16.Create(entropy), RequestId = errand.Key, Kind = errand.Kind, Agent = errand.Agent, VmId = errand.VmId, VmName = errand.VmName,
                        PointId = errand.Kind == JobKind.Backup ? Id16.Create(entropy) : errand.PointId, Options = errand.Options, Start = errand.Start, CreatedMs = time.NowMs(),
                    },
                    stopping);
            }
            catch (FaultException busy) when (busy.Reason == FaultReason.FailedPrecondition && errand.Kind == JobKind.Backup && time.GetElapsedTime(begun) < BusyMax)
            {
                await Task.Delay(BusyInterval, time, stopping);
            }
        }
    }

    private async Task GuardAsync(JobRow job, Errand errand, CancellationToken cancel, CancellationToken stopping)
    {
        var seen = time.GetTimestamp();
        while (true)
        {
            if (connections.IsConnected(errand.Agent))
            {
                seen = time.GetTimestamp();
            }
            if (cancel.IsCancellationRequested || (errand.Patience is { } patience && time.GetElapsedTime(seen) > patience))
            {
                await jobs.CancelAsync(job.JobId, stopping);
                return;
            }
            await Task.Delay(LookInterval, time, stopping);
        }
    }
}

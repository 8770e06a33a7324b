using System.Collections.Concurrent;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using Progress = VirtBackup.Protocol.Common.V1.Progress;

namespace VirtBackup.Controller.Replication;

/// <summary>Runs replication as jobs: several peers beside each other, one run of a peer at a time. Safe for concurrent use.</summary>
public sealed partial class ReplicationService : IDisposable
{
    private const int PeersAtOnce = 4;

    private readonly ReplicationParts _parts;
    private readonly ILogger _logger;
    private readonly OwnJobs _queue;
    private readonly ConcurrentDictionary<string, SemaphoreSlim> _running = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, ReplicationState> _states = new(StringComparer.Ordinal);

    public ReplicationService(ReplicationParts parts, ILogger<ReplicationService> logger)
    {
        (_parts, _logger) = (parts, logger);
        _queue = new OwnJobs(RunAsync, "replication", parts.Jobs, logger, PeersAtOnce);
    }

    public void Cancel(Id16 jobId) => _queue.Cancel(jobId);

    /// <summary>Works on the queue until cancelled.</summary>
    public Task RunJobsAsync(CancellationToken cancellationToken) => _queue.RunAsync(cancellationToken);

    /// <summary>Starts a run. The same request id gives the job that it started.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>: there is no such peer.</exception>
    public async ValueTask<JobRow> StartAsync(StartReplicationRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        _ = await _parts.Catalog.Peers.RequireAsync(request.Peer, cancellationToken);
        var job = await _parts.Jobs.CreateAsync(
            new JobRow
            {
                JobId = Id16.Create(_parts.Entropy), RequestId = WireText.ToRequestId(request.RequestId), Kind = JobKind.Replication, Options = request.ToByteArray(),
                CreatedMs = _parts.Time.NowMs(),
            },
            cancellationToken);
        await _queue.StartAsync(job, cancellationToken);
        return job;
    }

    /// <summary>What is known of the peer's runs since the controller's start.</summary>
    internal ReplicationState StateOf(string peer) => _states.GetOrAdd(peer, static _ => new ReplicationState());

    /// <summary>The peer's rule; null: it has none.</summary>
    internal async ValueTask<ReplicationRule?> FindRuleAsync(string peer, CancellationToken cancellationToken) =>
        await _parts.Catalog.Replication.FindRuleAsync(peer, cancellationToken) is { } row ? ReplicationRule.Parser.ParseFrom(row.Rule) : null;

    public void Dispose()
    {
        _queue.Dispose();
        foreach (var gate in _running.Values)
        {
            gate.Dispose();
        }
    }

    private async ValueTask<IMessage> RunAsync(JobRow job, CancellationToken cancellationToken)
    {
        var request = StartReplicationRequest.Parser.ParseFrom(job.Options);
        var state = StateOf(request.Peer);
        var gate = _running.GetOrAdd(request.Peer, static _ => new SemaphoreSlim(1, 1));
        await TellAsync(job, new ReplicationProgress("waiting for the run before", 0, 0, 0), cancellationToken);
        await gate.WaitAsync(cancellationToken);
        try
        {
            state.Begin(job.JobId);
            var result = await RunAsync(job, request, state, cancellationToken);
            state.End(result.Problems.Count == 0 ? "" : result.Problems[0]);
            return result;
        }
        catch (FaultException fault)
        {
            LogFailed(request.Peer, fault.Message);
            state.End(fault.Message);
            throw;
        }
        finally
        {
            state.End();
            gate.Release();
        }
    }

    private async ValueTask<ReplicationResult> RunAsync(JobRow job, StartReplicationRequest request, ReplicationState state, CancellationToken cancellationToken)
    {
        var peer = await _parts.Catalog.Peers.RequireAsync(request.Peer, cancellationToken);
        var rule = await FindRuleAsync(request.Peer, cancellationToken) ?? RuleLimits.DefaultFor(request.Peer);
        await TellAsync(job, new ReplicationProgress("asking the peer", 0, 0, 0), cancellationToken);
        var progress = new JobProgress<ReplicationProgress>(_parts.Jobs, job.JobId, _parts.Time, ToMessage);
        var run = new ReplicationRun(_parts, peer, rule, line => _parts.Jobs.NoteAsync(job.JobId, line, cancellationToken), _logger)
        {
            Again = request.Again, Progress = progress, Only = request.Vms,
        };
        state.Watch(run, _parts.Time);
        return await progress.DuringAsync(() => run.RunAsync(cancellationToken), cancellationToken);
    }

    private ValueTask TellAsync(JobRow job, ReplicationProgress progress, CancellationToken cancellationToken) =>
        _parts.Jobs.ProgressAsync(job.JobId, ToMessage(progress).ToByteArray(), cancellationToken);

    private static Progress ToMessage(ReplicationProgress now) => new()
    {
        Phase = now.Phase ?? "asking the peer", BytesTotal = (ulong)now.BytesTotal, BytesDone = (ulong)now.BytesDone, BytesSent = (ulong)now.BytesReceived,
    };

    [LoggerMessage(Level = LogLevel.Warning, Message = "Replication from the peer {Peer} ended early: {Reason}")]
    private partial void LogFailed(string peer, string reason);
}

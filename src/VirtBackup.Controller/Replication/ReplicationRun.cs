using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog.Replication;
using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository.Replication;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Replication;

/// <summary>
/// Brings here what a peer has and this site has not: machines beside each other, each oldest first. A point that cannot be
/// had does not keep others; a connection that breaks ends the run, and the next one goes on. Use an instance once.
/// </summary>
internal sealed partial class ReplicationRun(ReplicationParts parts, PeerRow peer, ReplicationRule rule, Func<string, ValueTask> note, ILogger logger)
{
    private const int NamedMax = 1000;
    private const int ProblemsMax = 100;
    private const long DayMs = 24L * 3600 * 1000;

    private readonly ConcurrentDictionary<PeerReplicaSource, byte> _working = new();
    private readonly Lock _lock = new();
    private readonly ReplicationResult _result = new() { Peer = peer.Name };
    private readonly RateLimit _rate = new(rule, parts.Time);
    private Conversation? _first;
    private long _bytesTotal;
    private long _bytesDone;

    /// <summary>Pulls also what expired here.</summary>
    public bool Again { get; init; }

    /// <summary>Only these machines of those that the rule selects, by name there or id; none: all.</summary>
    public IReadOnlyCollection<string> Only { get; init; } = [];

    /// <summary>Bytes that came since the begin.</summary>
    public long BytesReceived => _rate.Received;

    /// <summary>Told how far the run is.</summary>
    public IProgress<ReplicationProgress>? Progress { get; init; }

    /// <exception cref="FaultException"><see cref="FaultReason.Unavailable"/>: the peer cannot be reached; what the repository says.</exception>
    public async ValueTask<ReplicationResult> RunAsync(CancellationToken cancellationToken)
    {
        var streams = new List<Conversation> { await parts.Links.OpenAsync(peer, _rate, cancellationToken) };
        _first = streams[0];
        try
        {
            var row = await parts.Catalog.Replication.FindRuleAsync(peer.Name, cancellationToken) ?? new ReplicationRuleRow(peer.Name, [], 0);
            await new PeerListing(parts).RefreshAsync(streams[0], rule, row, TimeSpan.Zero, Again, cancellationToken);
            var machines = await SelectAsync(cancellationToken);
            _bytesTotal = machines.Sum(static machine => machine.Sum(static wish => wish.LogicalBytes));
            if (machines.Count > 0)
            {
                var more = await Task.WhenAll(Enumerable.Range(1, (int)rule.Streams - 1).Select(_ => TryOpenAsync(cancellationToken)));
                streams.AddRange(more.OfType<Conversation>());
                await PullAsync(streams, machines, cancellationToken);
            }
            await new PeerReceipts(parts).TellAllAsync(streams[0], peer.Name, cancellationToken);
            if (_result.PointsRefused == 0 && Only.Count == 0)
            {
                await parts.Catalog.Replication.SetCompleteAsync(peer.Name, parts.Time.NowMs(), cancellationToken);
            }
            return _result;
        }
        finally
        {
            foreach (var stream in streams)
            {
                await stream.DisposeAsync();
            }
        }
    }

    /// <summary>One stream is enough: what the peer does not give beside it is done without.</summary>
    private async Task<Conversation?> TryOpenAsync(CancellationToken cancellationToken)
    {
        try
        {
            return await parts.Links.OpenAsync(peer, _rate, cancellationToken);
        }
        catch (FaultException)
        {
            return null;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            // The others are not left open; the run ends at its next step.
            return null;
        }
    }

    /// <summary>What is not here, by machine, oldest first.</summary>
    private async ValueTask<List<List<ElsewhereRow>>> SelectAsync(CancellationToken cancellationToken)
    {
        var wishes = await parts.Catalog.Replication.ListElsewhereAsync(peer.Name, cancellationToken);
        var forgotten = (await parts.Repository.ListForgottenAsync(cancellationToken)).Select(static point => point.Point).ToHashSet();
        var only = await FindMachinesAsync(cancellationToken);
        var selected = new List<ElsewhereRow>();
        foreach (var wish in wishes.Concat(await ListDamagedAsync(wishes, cancellationToken)))
        {
            if (only.Count > 0 && !only.Contains(wish.VmId))
            {
                continue;
            }
            if (Again && forgotten.Contains(wish.PointId))
            {
                await RecallAsync(wish, cancellationToken);
                continue;
            }
            if (!Again && (forgotten.Contains(wish.PointId) || await parts.Catalog.Replication.IsExpiredAsync(wish.PointId, cancellationToken)))
            {
                await parts.Catalog.Replication.RemoveElsewhereAsync(wish.PointId, cancellationToken);
                continue;
            }
            selected.Add(wish);
        }
        return [.. selected.GroupBy(static wish => wish.VmId).Select(static group => group.ToList())];
    }

    private async ValueTask<HashSet<Id16>> FindMachinesAsync(CancellationToken cancellationToken)
    {
        var ids = new HashSet<Id16>();
        foreach (var machine in Only)
        {
            if (Id16.TryParse(machine, out var id))
            {
                ids.Add(id);
                continue;
            }
            var found = await parts.Catalog.Replication.FindMachinesAsync(peer.Name, machine, 2, cancellationToken);
            if (found.Count != 1)
            {
                throw new FaultException(
                    FaultReason.NotFound, $"'{machine}' means {(found.Count == 0 ? "no machine" : "more than one machine")} of the peer '{peer.Name}' that this site may read: give its id.");
            }
            ids.Add(found[0]);
        }
        return ids;
    }

    /// <summary>What came from the peer before and is not whole any more: it is made so again.</summary>
    private async ValueTask<List<ElsewhereRow>> ListDamagedAsync(List<ElsewhereRow> known, CancellationToken cancellationToken)
    {
        var listed = known.Select(static wish => wish.PointId).ToHashSet();
        var damaged = new List<ElsewhereRow>();
        foreach (var point in await parts.Repository.ListPointsAsync(null, cancellationToken))
        {
            if (!point.IsComplete && !listed.Contains(point.Point) && await parts.Catalog.Points.FindAsync(point.Point, cancellationToken) is { } row && row.Peer == peer.Name)
            {
                damaged.Add(new ElsewhereRow { PointId = point.Point, VmId = point.Vm, CreatedMs = point.CreatedMs, Sequence = point.Sequence, LogicalBytes = point.StreamBytes });
            }
        }
        return damaged;
    }

    /// <summary>It was forgotten here and not deleted yet: nothing needs to be pulled.</summary>
    private async ValueTask RecallAsync(ElsewhereRow wish, CancellationToken cancellationToken)
    {
        await parts.Repository.RecallAsync(wish.VmId, wish.PointId, cancellationToken);
        await parts.Catalog.Points.SetForgottenAsync(wish.PointId, false, CancellationToken.None);
        await parts.Catalog.Replication.NoteWantedAsync(wish.PointId, CancellationToken.None);
        await parts.Catalog.Replication.RemoveElsewhereAsync(wish.PointId, CancellationToken.None);
        _result.PointsPresent++;
    }

    private async Task PullAsync(List<Conversation> streams, List<List<ElsewhereRow>> machines, CancellationToken cancellationToken)
    {
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var queue = new ConcurrentQueue<List<ElsewhereRow>>(machines);
        var workers = Math.Min(streams.Count, machines.Count);
        var running = Enumerable.Range(0, workers)
            .Select(worker => WorkAsync([.. streams.Where((_, i) => i % workers == worker)], queue, scope)).ToList();
        // A worker's fault comes before the cancellation of the others.
        await Task.WhenAll(running);
    }

    private async Task WorkAsync(List<Conversation> streams, ConcurrentQueue<List<ElsewhereRow>> queue, CancellationTokenSource scope)
    {
        await Task.Yield();
        var source = new PeerReplicaSource(peer.Name, streams, parts.Store, parts.Time);
        _working[source] = 0;
        try
        {
            while (queue.TryDequeue(out var wishes))
            {
                foreach (var wish in wishes)
                {
                    await PullAsync(source, wish, scope.Token);
                }
            }
        }
        catch
        {
            await scope.CancelAsync();
            throw;
        }
        finally
        {
            _working.TryRemove(source, out _);
        }
        // What is left is large: it gets these streams, too.
        foreach (var stream in streams)
        {
            _working.Keys.FirstOrDefault()?.Add(stream);
        }
    }

    private async ValueTask PullAsync(PeerReplicaSource source, ElsewhereRow wish, CancellationToken cancellationToken)
    {
        var name = await parts.Catalog.Replication.FindMachineNameAsync(wish.VmId, cancellationToken) ?? wish.VmId.ToString();
        try
        {
            var progress = new PointProgress(this, wish.LogicalBytes);
            var options = new ReplicaOptions { Verify = VerifyAsync, Progress = progress };
            if (await TryPullAsync(source, wish, options, cancellationToken) is not { } report)
            {
                await parts.Catalog.Replication.RemoveElsewhereAsync(wish.PointId, cancellationToken);
                return;
            }
            progress.End();
            await KeepAsync(wish, name, report, cancellationToken);
            await CountAsync(wish, name, report);
            await new PeerReceipts(parts).TellAsync(_first!, wish.PointId, cancellationToken);
        }
        catch (FaultException fault) when (IsOfThePoint(fault.Reason))
        {
            await RefuseAsync(wish, name, fault);
        }
    }

    /// <summary>Null: it expired there meanwhile.</summary>
    private async ValueTask<ReplicaReport?> TryPullAsync(PeerReplicaSource source, ElsewhereRow wish, ReplicaOptions options, CancellationToken cancellationToken)
    {
        try
        {
            return await parts.Repository.PullAsync(source, new ReplicaWish(wish.VmId, wish.PointId), options, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
        {
            return null;
        }
    }

    /// <summary>The point is here. What is missing of the rest after a crash is made up for by the next run: it is still in the list.</summary>
    private async ValueTask KeepAsync(ElsewhereRow wish, string name, ReplicaReport report, CancellationToken cancellationToken)
    {
        if (rule.LockDays > 0 && await parts.Locks.FindAsync(wish.PointId, cancellationToken) == 0)
        {
            await parts.Enforcement.RequireAsync(cancellationToken);
            var now = await parts.Clock.ReadAsync(cancellationToken);
            await parts.Locks.LengthenAsync(wish.PointId, now.NowMs + (rule.LockDays * DayMs), cancellationToken);
            parts.Enforcement.Nudge();
        }
        // A machine that an agent of this site reports is kept as this site wants.
        if (rule.RuleSet.Length > 0 && await parts.Catalog.Machines.FindAsync(wish.VmId, cancellationToken) is not { Peer.Length: 0 }
            && await parts.Catalog.RuleSets.FindOfAsync(wish.VmId, cancellationToken) is not { IsOwn: true })
        {
            await parts.Catalog.RuleSets.AttachAsync(wish.VmId, rule.RuleSet, cancellationToken);
        }
        await parts.Catalog.Machines.NoteElsewhereAsync(wish.VmId, name, peer.Name, cancellationToken);
        if (await parts.Describer.DescribeAsync(wish.PointId, cancellationToken) is { } row)
        {
            // A point that was healed is where it came from before, and its run stored what it did.
            var before = await parts.Catalog.Points.FindAsync(wish.PointId, cancellationToken);
            await parts.Catalog.Points.SaveAsync(
                row with
                {
                    Peer = before?.Peer ?? peer.Name, VmName = row.Sealed ? name : row.VmName,
                    StoredBytes = before?.StoredBytes ?? (report.WasHere ? row.StoredBytes : report.StoredBytes),
                },
                cancellationToken);
        }
        await parts.Catalog.Replication.NoteWantedAsync(wish.PointId, cancellationToken);
        await parts.Catalog.Replication.RemoveElsewhereAsync(wish.PointId, cancellationToken);
    }

    private async ValueTask CountAsync(ElsewhereRow wish, string name, ReplicaReport report)
    {
        lock (_lock)
        {
            _result.PointsReceived += report.WasHere ? 0u : 1u;
            _result.PointsPresent += report.WasHere ? 1u : 0u;
            _result.NodesReceived += (ulong)report.Done.Nodes;
            _result.ChunksReceived += (ulong)report.Done.Records;
            _result.BytesReceived += (ulong)report.Done.ReceivedBytes;
            if (!report.WasHere && _result.Received.Count < NamedMax)
            {
                _result.Received.Add(new ReplicatedPoint
                {
                    PointId = wish.PointId.ToString(), VmName = name, CreateTime = WireText.ToTimestamp(wish.CreatedMs), BytesReceived = (ulong)report.Done.ReceivedBytes,
                });
            }
        }
        if (!report.WasHere)
        {
            LogReceived(wish.PointId, name, peer.Name, report.Done.ReceivedBytes);
            await note($"Recovery point {wish.PointId} ({name}@{wish.Sequence}) is here: {report.Done.ReceivedBytes} bytes received.");
        }
    }

    private async ValueTask RefuseAsync(ElsewhereRow wish, string name, FaultException fault)
    {
        LogRefused(wish.PointId, name, peer.Name, fault.Message);
        lock (_lock)
        {
            _result.PointsRefused++;
            if (_result.Problems.Count < ProblemsMax)
            {
                _result.Problems.Add($"Recovery point {wish.PointId} ({name}@{wish.Sequence}): {fault.Message}");
            }
        }
        await note($"Recovery point {wish.PointId} ({name}@{wish.Sequence}) could not be had: {fault.Message}");
    }

    /// <summary>Another point may do all the same.</summary>
    internal static bool IsOfThePoint(FaultReason reason) =>
        reason is FaultReason.NotFound or FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Denied or FaultReason.Incomplete or FaultReason.AlreadyExists or FaultReason.Unsupported
            or FaultReason.InvalidArgument or FaultReason.FailedPrecondition;

    /// <summary>The agents of another site are vouched for by that site, whose peer certificate this stream has.</summary>
    private static ValueTask VerifyAsync(Manifest manifest, ReadOnlyMemory<byte> agentPublicKey, CancellationToken cancellationToken)
    {
        ManifestSealing.VerifySignature(manifest, agentPublicKey.Span);
        return ValueTask.CompletedTask;
    }

    private void Tell(long done, string phase)
    {
        var now = Interlocked.Add(ref _bytesDone, done);
        Progress?.Report(new ReplicationProgress(phase, Interlocked.Read(ref _bytesTotal), now, _rate.Received));
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Recovery point {Point} of {Vm} was pulled from the peer {Peer}: {Bytes} bytes received.")]
    private partial void LogReceived(Id16 point, string vm, string peer, long bytes);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Recovery point {Point} of {Vm} could not be pulled from the peer {Peer}: {Reason}")]
    private partial void LogRefused(Id16 point, string vm, string peer, string reason);

    /// <summary>Of one point: what is here of it already counts as done.</summary>
    private sealed class PointProgress(ReplicationRun run, long bytes) : IProgress<ReplicaProgress>
    {
        private long _told;

        public void Report(ReplicaProgress value)
        {
            var done = Math.Clamp(value.IsMapKnown ? bytes - (value.MissingBytes - value.FetchedBytes) : value.FetchedBytes, 0, bytes);
            Add(Math.Max(0, done - Interlocked.Read(ref _told)), value.IsMapKnown ? "receiving" : "comparing maps and receiving");
        }

        public void End() => Add(Math.Max(0, bytes - Interlocked.Read(ref _told)), "receiving");

        private void Add(long more, string phase)
        {
            Interlocked.Add(ref _told, more);
            run.Tell(more, phase);
        }
    }
}

/// <summary>How far a run is. Bytes of disks; received ones as they came.</summary>
internal readonly record struct ReplicationProgress(string Phase, long BytesTotal, long BytesDone, long BytesReceived);

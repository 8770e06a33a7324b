using Microsoft.Extensions.Logging;
using VirtBackup.Catalog.Replication;
using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Replication;

/// <summary>Starts runs by the peers' rules: every so often, or as soon as a peer has something. Safe for concurrent use.</summary>
public sealed partial class ReplicationSchedule(ReplicationParts parts, ReplicationService service, ILogger<ReplicationSchedule> logger)
{
    private static readonly TimeSpan LookInterval = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan PollWait = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan PollPause = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan BackOffMin = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan BackOffMax = TimeSpan.FromMinutes(1);

    /// <summary>What could not be had is tried again after this time.</summary>
    private static readonly TimeSpan RetryInterval = TimeSpan.FromMinutes(5);

    /// <summary>Follows all rules until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var followed = new Dictionary<string, Task>(StringComparer.Ordinal);
        try
        {
            while (true)
            {
                foreach (var row in await parts.Catalog.Replication.ListRulesAsync(scope.Token))
                {
                    if (!followed.TryGetValue(row.Peer, out var following) || following.IsCompleted)
                    {
                        followed[row.Peer] = FollowAsync(row.Peer, scope.Token);
                    }
                }
                await Task.Delay(LookInterval, parts.Time, scope.Token);
            }
        }
        finally
        {
            await scope.CancelAsync();
            await Task.WhenAll(followed.Values).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    private async Task FollowAsync(string peer, CancellationToken cancellationToken)
    {
        await Task.Yield();
        var backOff = BackOffMin;
        long? failed = null;
        while (await parts.Catalog.Replication.FindRuleAsync(peer, cancellationToken) is { } row)
        {
            var rule = ReplicationRule.Parser.ParseFrom(row.Rule);
            var state = service.StateOf(peer);
            try
            {
                if (rule.Paused)
                {
                    state.NextMs = null;
                    await Task.Delay(LookInterval, parts.Time, cancellationToken);
                }
                else if (rule.EveryMinutes > 0)
                {
                    failed = await RunWhenDueAsync(row, rule, state, failed, cancellationToken) ? null : failed;
                }
                else
                {
                    state.NextMs = null;
                    await RunOnNewsAsync(row, rule, state, cancellationToken);
                }
                backOff = BackOffMin;
            }
            catch (FaultException fault)
            {
                LogNotNow(peer, fault.Message);
                state.End(fault.Message);
                failed = parts.Time.NowMs();
                await Task.Delay(backOff, parts.Time, cancellationToken);
                backOff = backOff * 2 < BackOffMax ? backOff * 2 : BackOffMax;
            }
        }
    }

    /// <param name="failedMs">When a run failed, Unix milliseconds; null: none did since one ended well.</param>
    /// <returns>Whether a run ended well.</returns>
    private async ValueTask<bool> RunWhenDueAsync(ReplicationRuleRow row, ReplicationRule rule, ReplicationState state, long? failedMs, CancellationToken cancellationToken)
    {
        var now = parts.Time.NowMs();
        // A clock that was set back does not put a run off, and neither does a link that broke in the middle of one.
        var due = row.ListedMs is { } listed && listed <= now ? listed + (rule.EveryMinutes * 60_000L) : now;
        if (failedMs is { } failed && failed <= now)
        {
            due = Math.Min(due, failed + (long)RetryInterval.TotalMilliseconds);
        }
        state.NextMs = due;
        if (due > now)
        {
            var wait = TimeSpan.FromMilliseconds(due - now);
            await Task.Delay(wait < LookInterval ? wait : LookInterval, parts.Time, cancellationToken);
            return false;
        }
        // A peer that is not there is no failed job.
        await (await parts.Links.OpenAsync(await parts.Catalog.Peers.RequireAsync(row.Peer, cancellationToken), NoPace.Instance, cancellationToken)).DisposeAsync();
        await RunAsync(row.Peer, cancellationToken);
        return true;
    }

    /// <summary>One stream waits for news; each time that there are some, a run fetches them.</summary>
    private async ValueTask RunOnNewsAsync(ReplicationRuleRow first, ReplicationRule rule, ReplicationState state, CancellationToken cancellationToken)
    {
        var peer = await parts.Catalog.Peers.RequireAsync(first.Peer, cancellationToken);
        await using var conversation = await parts.Links.OpenAsync(peer, NoPace.Instance, cancellationToken);
        state.End("");
        var listing = new PeerListing(parts);
        var triedAt = (long?)null;
        var toldAt = (long?)null;
        while (await parts.Catalog.Replication.FindRuleAsync(first.Peer, cancellationToken) is { } row && row.ChangedMs == first.ChangedMs)
        {
            var asked = parts.Time.GetTimestamp();
            var isNew = await listing.RefreshAsync(conversation, rule, row, PollWait, again: false, cancellationToken);
            if (!isNew && parts.Time.GetElapsedTime(asked) is var took && took < PollPause)
            {
                // A peer that does not wait is not asked without a pause.
                await Task.Delay(PollPause - took, parts.Time, cancellationToken);
            }
            if (toldAt is null || parts.Time.GetElapsedTime(toldAt.Value) >= PeerReceipts.Interval)
            {
                await new PeerReceipts(parts).TellAllAsync(conversation, peer.Name, cancellationToken);
                toldAt = parts.Time.GetTimestamp();
            }
            var isTime = triedAt is null || parts.Time.GetElapsedTime(triedAt.Value) >= RetryInterval;
            if ((isNew || isTime) && (await parts.Catalog.Replication.ListElsewhereAsync(first.Peer, cancellationToken)).Count > 0)
            {
                triedAt = parts.Time.GetTimestamp();
                await RunAsync(first.Peer, cancellationToken);
            }
            else
            {
                await parts.Catalog.Replication.SetCompleteIfNothingMissesAsync(first.Peer, parts.Time.NowMs(), cancellationToken);
            }
        }
    }

    private async ValueTask RunAsync(string peer, CancellationToken cancellationToken)
    {
        var job = await service.StartAsync(new StartReplicationRequest { Peer = peer }, cancellationToken);
        await foreach (var state in parts.Jobs.WatchAsync(job.JobId, cancellationToken))
        {
            if (state is { IsFinal: true, FailureMessage.Length: > 0 })
            {
                throw new FaultException(state.FailureReason, state.FailureMessage);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Replication from the peer {Peer} waits: {Reason}")]
    private partial void LogNotNow(string peer, string reason);
}

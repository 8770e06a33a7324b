using VirtBackup.Catalog;
using VirtBackup.Catalog.Replication;
using VirtBackup.Controller.Admin;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using Google.Protobuf;

namespace VirtBackup.Controller.Replication;

/// <summary>What operators' tools ask of replication: rules, runs, and how far behind copies are. Safe for concurrent use.</summary>
public sealed class RuleEndpoint(CatalogDatabase catalog, ReplicationService service, TimeProvider time)
{
    private const int MachinesMax = 1000;

    public async ValueTask<SetReplicationRuleResponse> SetReplicationRuleAsync(SetReplicationRuleRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var rule = RuleLimits.Validate(request.Rule ?? throw new FaultException(FaultReason.InvalidArgument, "Say what the rule is."));
        _ = await catalog.Peers.RequireAsync(rule.Peer, cancellationToken);
        if (rule.RuleSet.Length > 0 && await catalog.RuleSets.FindAsync(rule.RuleSet, cancellationToken) is null)
        {
            throw new FaultException(FaultReason.NotFound, $"There is no rule set '{rule.RuleSet}'.");
        }
        await catalog.Replication.SetRuleAsync(rule.Peer, rule.ToByteArray(), time.NowMs(), cancellationToken);
        return new SetReplicationRuleResponse { Rule = rule };
    }

    public async ValueTask<ListReplicationRulesResponse> ListReplicationRulesAsync(CancellationToken cancellationToken)
    {
        var response = new ListReplicationRulesResponse();
        response.Rules.Add((await catalog.Replication.ListRulesAsync(cancellationToken)).Select(static row => ReplicationRule.Parser.ParseFrom(row.Rule)));
        return response;
    }

    public async ValueTask<RemoveReplicationRuleResponse> RemoveReplicationRuleAsync(RemoveReplicationRuleRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return await catalog.Replication.RemoveRuleAsync(request.Peer, cancellationToken)
            ? new RemoveReplicationRuleResponse()
            : throw new FaultException(FaultReason.NotFound, $"There is no rule of replication for a peer called '{request.Peer}'.");
    }

    public async ValueTask<StartReplicationResponse> StartReplicationAsync(StartReplicationRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return request.Vms.Count <= MachinesMax
            ? new StartReplicationResponse { Job = AdminMessages.ToMessage(await service.StartAsync(request, cancellationToken), null) }
            : throw new FaultException(FaultReason.InvalidArgument, $"A run names at most {MachinesMax} machines.");
    }

    public async ValueTask<GetReplicationStatusResponse> GetReplicationStatusAsync(GetReplicationStatusRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var rows = await catalog.Replication.ListRulesAsync(cancellationToken);
        if (request.Peer.Length > 0)
        {
            rows.RemoveAll(row => row.Peer != request.Peer);
            if (rows.Count == 0)
            {
                throw new FaultException(FaultReason.NotFound, $"There is no rule of replication for a peer called '{request.Peer}'.");
            }
        }
        var response = new GetReplicationStatusResponse();
        foreach (var row in rows)
        {
            response.Rules.Add(await DescribeAsync(row, cancellationToken));
        }
        return response;
    }

    private async ValueTask<ReplicationStatus> DescribeAsync(ReplicationRuleRow row, CancellationToken cancellationToken)
    {
        var state = service.StateOf(row.Peer);
        var lags = await catalog.Replication.ListLagsAsync(row.Peer, cancellationToken);
        var status = new ReplicationStatus
        {
            Rule = ReplicationRule.Parser.ParseFrom(row.Rule),
            Running = state.IsRunning,
            JobId = WireText.ToText(state.JobId),
            LastSuccessTime = WireText.ToTimestamp(row.CompleteMs),
            NextTime = WireText.ToTimestamp(state.NextMs),
            Problem = state.Problem,
            MachinesTotal = (uint)lags.Count,
            BytesPerSecond = (ulong)state.BytesPerSecond,
        };
        status.Machines.Add(lags.Take(MachinesMax).Select(lag => new ReplicatedMachine
        {
            VmId = lag.VmId.ToString(),
            VmName = lag.Name,
            NewestSourceTime = lag.NewestThereMs == 0 ? null : WireText.ToTimestamp(lag.NewestThereMs),
            NewestHereTime = WireText.ToTimestamp(lag.NewestHereMs),
            PointsMissing = (ulong)lag.Missing,
            LagMs = lag.NewestMissingMs is { } missing ? (ulong)Math.Max(1, time.NowMs() - missing) : 0,
            ListTime = WireText.ToTimestamp(row.ListedMs),
        }));
        return status;
    }
}

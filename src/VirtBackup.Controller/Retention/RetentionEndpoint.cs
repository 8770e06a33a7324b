using VirtBackup.Catalog;
using VirtBackup.Catalog.Retention;
using VirtBackup.Controller.Admin;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository.Points;

namespace VirtBackup.Controller.Retention;

/// <summary>What operators' tools can ask for about how long recovery points stay. Safe for concurrent use.</summary>
public sealed class RetentionEndpoint(
    CatalogDatabase catalog, References references, JobStarter starter, PointCustody custody, PointGathering gathering, PointLocks locks, RetentionOutlook outlook,
    TrustedClock clock)
{
    private const uint DaysDefault = 3650;
    private const uint DaysMax = 36_500;
    private const long DayMs = 24 * 3_600_000L;
    private const long MinuteMs = 60_000;

    public async ValueTask<SetRuleSetResponse> SetRuleSetAsync(SetRuleSetRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        bool? isDefault = request.Default switch
        {
            SetRuleSetRequest.Types.Default.Unspecified => null,
            SetRuleSetRequest.Types.Default.Yes => true,
            SetRuleSetRequest.Types.Default.No => false,
            _ => throw new FaultException(FaultReason.InvalidArgument, "Whether the rule set is the default is said in a way that this controller does not know."),
        };
        var now = await clock.ReadAsync(cancellationToken);
        var row = await catalog.RuleSets.SetAsync(request.Name, RetentionMessages.FromMessage(request.Rules), isDefault, now.NowMs, cancellationToken);
        return new SetRuleSetResponse { RuleSet = RetentionMessages.ToMessage(row) };
    }

    public async ValueTask<ListRuleSetsResponse> ListRuleSetsAsync(CancellationToken cancellationToken)
    {
        var response = new ListRuleSetsResponse();
        response.RuleSets.Add((await catalog.RuleSets.ListAsync(cancellationToken)).Select(RetentionMessages.ToMessage));
        return response;
    }

    public async ValueTask<GetRuleSetResponse> GetRuleSetAsync(GetRuleSetRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var response = new GetRuleSetResponse { RuleSet = RetentionMessages.ToMessage(await FindAsync(request.Name, cancellationToken)) };
        foreach (var vmId in await catalog.RuleSets.ListMachinesAsync(request.Name, cancellationToken))
        {
            response.VirtualMachines.Add(await references.NameMachineAsync(vmId, cancellationToken));
        }
        return response;
    }

    public async ValueTask<DeleteRuleSetResponse> DeleteRuleSetAsync(DeleteRuleSetRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        await catalog.RuleSets.DeleteAsync(request.Name, cancellationToken);
        return new DeleteRuleSetResponse();
    }

    public async ValueTask<AttachRuleSetResponse> AttachRuleSetAsync(AttachRuleSetRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var vmId = await references.FindMachineIdAsync(request.Vm, cancellationToken);
        var attached = await catalog.RuleSets.AttachAsync(vmId, request.RuleSet, cancellationToken);
        return new AttachRuleSetResponse { VmName = await references.NameMachineAsync(vmId, cancellationToken), Retention = RetentionMessages.ToMessage(attached) };
    }

    public async ValueTask<DetachRuleSetResponse> DetachRuleSetAsync(DetachRuleSetRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var vmId = await references.FindMachineIdAsync(request.Vm, cancellationToken);
        var left = await catalog.RuleSets.DetachAsync(vmId, cancellationToken);
        return new DetachRuleSetResponse { VmName = await references.NameMachineAsync(vmId, cancellationToken), Retention = RetentionMessages.ToMessage(left) };
    }

    /// <param name="caller">Who places the hold.</param>
    public async ValueTask<HoldPointResponse> HoldPointAsync(Caller caller, HoldPointRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        ArgumentNullException.ThrowIfNull(request);
        var point = await references.FindPointAsync(request.Point, cancellationToken);
        var hold = await custody.HoldAsync(point, request.Reason, caller.Name, bySystem: false, cancellationToken);
        return new HoldPointResponse { RecoveryPoint = await DescribeAsync(point, cancellationToken), Hold = RetentionMessages.ToMessage(hold) };
    }

    public async ValueTask<ReleasePointResponse> ReleasePointAsync(ReleasePointRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var point = await references.FindPointAsync(request.Point, cancellationToken);
        await custody.ReleaseAsync(point, request.HoldId, cancellationToken);
        return new ReleasePointResponse { RecoveryPoint = await DescribeAsync(point, cancellationToken) };
    }

    public async ValueTask<LockPointResponse> LockPointAsync(LockPointRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var point = await references.FindPointAsync(request.Point, cancellationToken);
        await custody.LockAsync(point, WireText.ToMs(request.Until, "end of the lock"), cancellationToken);
        return new LockPointResponse { RecoveryPoint = await DescribeAsync(point, cancellationToken) };
    }

    public async ValueTask<SimulateRetentionResponse> SimulateRetentionAsync(SimulateRetentionRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Days > DaysMax || request.IntervalMinutes > SimulationAssumptions.IntervalMsMax / MinuteMs)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A simulation looks at most {DaysMax} days ahead, and points follow each other within ten years.");
        }
        var vmId = await references.FindMachineIdAsync(request.Vm, cancellationToken);
        var machine = await gathering.ReadAsync(vmId, await locks.ListAsync(cancellationToken), cancellationToken);
        if (request.Rules is not null || request.RuleSet.Length > 0)
        {
            var other = request.RuleSet.Length > 0
                ? await FindAsync(request.RuleSet, cancellationToken)
                : new RuleSetRow("", RetentionMessages.FromMessage(request.Rules), false, 0, 0);
            machine = machine with { RuleSet = new MachineRuleSet(other, IsOwn: true) };
        }
        var now = await clock.ReadAsync(cancellationToken);
        var interval = request.NoFurtherPoints ? 0 : request.IntervalMinutes > 0 ? request.IntervalMinutes * MinuteMs : machine.TypicalIntervalMs;
        var simulation = RetentionSimulator.Run(machine.Rules, machine.Points, new SimulationAssumptions
        {
            NowMs = now.NowMs,
            IntervalMs = interval,
            FurtherAreVerified = request.FurtherAreVerified,
            EndMs = now.NowMs + ((request.Days == 0 ? DaysDefault : request.Days) * DayMs),
        });
        var response = new SimulateRetentionResponse
        {
            VmName = await references.NameMachineAsync(vmId, cancellationToken),
            Rules = RetentionMessages.ToMessage(machine.Rules),
            RuleSet = machine.RuleSet?.RuleSet.Name ?? "",
            IntervalMinutes = (uint)(interval / MinuteMs),
            Now = WireText.ToTimestamp(now.NowMs),
            SimulatedUntil = WireText.ToTimestamp(simulation.EndMs),
            Settled = simulation.Settled,
            PointsAtEnd = (uint)simulation.PointsAtEnd,
        };
        var rows = machine.Rows.ToDictionary(static row => row.PointId);
        foreach (var point in simulation.Points)
        {
            var message = AdminMessages.ToMessage(rows[point.Verdict.Point.Id]);
            message.Retention = RetentionMessages.ToMessage(machine, point, simulation);
            response.RecoveryPoints.Add(message);
        }
        return response;
    }

    public async ValueTask<StartRetentionResponse> StartRetentionAsync(StartRetentionRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return new StartRetentionResponse { Job = AdminMessages.ToMessage(await starter.StartRetentionAsync(request, cancellationToken), null) };
    }

    public async ValueTask<ConfirmTimeResponse> ConfirmTimeAsync(ConfirmTimeRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var confirmed = await clock.ConfirmAsync(WireText.ToMs(request.OperatorTime, "operator's time"), cancellationToken);
        return new ConfirmTimeResponse { Time = WireText.ToTimestamp(confirmed.NowMs) };
    }

    private async ValueTask<RuleSetRow> FindAsync(string name, CancellationToken cancellationToken) =>
        await catalog.RuleSets.FindAsync(name, cancellationToken) ?? throw new FaultException(FaultReason.NotFound, $"There is no rule set '{name}'.");

    private async ValueTask<RecoveryPoint> DescribeAsync(PointRow point, CancellationToken cancellationToken)
    {
        var message = AdminMessages.ToMessage(point);
        await outlook.DescribeAsync([message], cancellationToken);
        return message;
    }
}

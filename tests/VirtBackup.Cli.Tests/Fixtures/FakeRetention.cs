using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>Two rule sets, of which one governs the one machine.</summary>
internal sealed class FakeRetention(FakeAdmin admin) : RetentionService.RetentionServiceBase
{
    public static readonly Timestamp Noon = Timestamp.FromDateTimeOffset(new DateTimeOffset(2031, 5, 4, 12, 0, 0, TimeSpan.Zero));

    public static RuleSet Gold => new() { Name = "gold", Rules = new RetentionRules { KeepDaily = 7, KeepWithinHours = 48 }, VirtualMachines = 1, ChangeTime = Noon };

    public static RuleSet Usual => new() { Name = "usual", Rules = new RetentionRules(), IsDefault = true, ChangeTime = Noon };

    public static Hold Hold => new() { HoldId = "cc00cc00cc00cc000000000000000001", Reason = "court", PlacedBy = "alice", PlaceTime = Noon };

    public static MachineRetention Machine => new() { RuleSet = "gold", Rules = Gold.Rules };

    public static PointRetention Point => new()
    {
        RuleSet = "gold", KeptBy = { "daily 1 of 7", "latest" }, Verified = true, LockTime = Noon, ExpireTime = Timestamp.FromDateTimeOffset(Noon.ToDateTimeOffset().AddDays(7)), SimulatedUntil = Noon,
    };

    public static RetentionResult Result => new()
    {
        PointsKept = 5, ExpiredTotal = 1, Expired = { new ExpiredPoint { PointId = FakeAdmin.PointId, VmName = "web1", CreateTime = Noon, Reason = "no rule of 'gold' (daily 7) keeps it" } },
    };

    public override Task<SetRuleSetResponse> SetRuleSet(SetRuleSetRequest request, ServerCallContext context) =>
        admin.Answer(request, new SetRuleSetResponse { RuleSet = new RuleSet { Name = request.Name, Rules = request.Rules, ChangeTime = Noon } });

    public override Task<ListRuleSetsResponse> ListRuleSets(ListRuleSetsRequest request, ServerCallContext context) =>
        admin.Answer(request, new ListRuleSetsResponse { RuleSets = { Gold, Usual } });

    public override Task<GetRuleSetResponse> GetRuleSet(GetRuleSetRequest request, ServerCallContext context) =>
        admin.Answer(request, new GetRuleSetResponse { RuleSet = request.Name == "gold" ? Gold : throw Missing(request.Name), VirtualMachines = { "web1" } });

    public override Task<DeleteRuleSetResponse> DeleteRuleSet(DeleteRuleSetRequest request, ServerCallContext context) => request.Name == "gold"
        ? throw FaultStatus.ToRpc(new FaultException(FaultReason.FailedPrecondition, "The rule set 'gold' is attached to 1 virtual machines: detach it from them first."))
        : admin.Answer(request, new DeleteRuleSetResponse());

    public override Task<AttachRuleSetResponse> AttachRuleSet(AttachRuleSetRequest request, ServerCallContext context) => request.RuleSet == "gold"
        ? admin.Answer(request, new AttachRuleSetResponse { VmName = request.Vm, Retention = Machine })
        : throw Missing(request.RuleSet);

    public override Task<DetachRuleSetResponse> DetachRuleSet(DetachRuleSetRequest request, ServerCallContext context) =>
        admin.Answer(request, new DetachRuleSetResponse { VmName = request.Vm, Retention = new MachineRetention { RuleSet = "usual", IsDefault = true, Rules = Usual.Rules } });

    public override Task<HoldPointResponse> HoldPoint(HoldPointRequest request, ServerCallContext context) =>
        admin.Answer(request, new HoldPointResponse { RecoveryPoint = FakeAdmin.Point, Hold = Hold });

    public override Task<ReleasePointResponse> ReleasePoint(ReleasePointRequest request, ServerCallContext context) =>
        admin.Answer(request, new ReleasePointResponse { RecoveryPoint = FakeAdmin.Point });

    public override Task<LockPointResponse> LockPoint(LockPointRequest request, ServerCallContext context) =>
        admin.Answer(request, new LockPointResponse { RecoveryPoint = FakeAdmin.Point });

    public override Task<SimulateRetentionResponse> SimulateRetention(SimulateRetentionRequest request, ServerCallContext context) => admin.Answer(
        request, new SimulateRetentionResponse { VmName = request.Vm, RuleSet = "gold", Rules = Gold.Rules, IntervalMinutes = 1440, Now = Noon, SimulatedUntil = Noon, PointsAtEnd = 7, RecoveryPoints = { FakeAdmin.Point } });

    public override Task<StartRetentionResponse> StartRetention(StartRetentionRequest request, ServerCallContext context) =>
        admin.Answer(request, new StartRetentionResponse { Job = admin.Started("retention", FakeAdmin.Machine) });

    public override Task<ConfirmTimeResponse> ConfirmTime(ConfirmTimeRequest request, ServerCallContext context) => admin.Answer(request, new ConfirmTimeResponse { Time = Noon });

    private static RpcException Missing(string name) => FaultStatus.ToRpc(new FaultException(FaultReason.NotFound, $"There is no rule set '{name}'."));
}

using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>web1 needs db1, which is asked by TCP.</summary>
internal sealed class FakeRecovery(FakeAdmin admin) : RecoveryService.RecoveryServiceBase
{
    private static DependentMachine Db => new() { VmId = FakeAdmin.VmId, VmName = "db1", Stage = 1, ProbeText = "tcp 10.0.0.7:5432", Probe = new ReadinessProbe { Tcp = "10.0.0.7:5432", TimeoutMs = 90_000, IntervalMs = 500 } };

    private static DependentMachine Web => new() { VmId = FakeAdmin.VmId, VmName = "web1", Stage = 2, Needs = { "db1" }, ProbeText = "started" };

    public static RecoveryResult Result(bool isPlan, bool isPart)
    {
        var result = new RecoveryResult
        {
            DryRun = isPlan, PredictedSeconds = 50, PredictedP90Seconds = 80, Parallel = 2,
            PredictedPath = { Leg("db1", false, 0, 20), Leg("db1", true, 20, 45), Leg("web1", true, 45, 50) },
            Machines =
            {
                new RecoveredMachine
                {
                    VmId = FakeAdmin.VmId, VmName = "db1", PointId = FakeAdmin.PointId, Agent = "host-1", Stage = 1, Probe = Db.ProbeText, RestoreP50Seconds = 20, RestoreP90Seconds = 30,
                    ReadyP50Seconds = 25, ReadyP90Seconds = 40, ReadyJudgedBy = 3, State = isPlan ? RecoveredMachine.Types.State.Planned : RecoveredMachine.Types.State.Ready,
                },
                new RecoveredMachine
                {
                    VmId = FakeAdmin.VmId, VmName = "web1", PointId = FakeAdmin.PointId, Agent = "host-1", Stage = 2, Needs = { "db1" }, Probe = "started",
                    State = isPlan ? RecoveredMachine.Types.State.Planned : isPart ? RecoveredMachine.Types.State.Failed : RecoveredMachine.Types.State.Ready, Message = isPart ? "was not ready" : "",
                },
            },
            Record = new RecoveryRecord { Scored = 4, WithinP50 = 2, WithinP90 = 3, MedianError = 0.1 },
        };
        if (!isPlan && !isPart)
        {
            (result.ActualSeconds, result.PathSeconds) = (61, 60);
            result.ActualPath.Add(Leg("db1", false, 0, 60));
        }
        return result;
    }

    public override Task<AddDependencyResponse> AddDependency(AddDependencyRequest request, ServerCallContext context) => request.Vm == "db1"
        ? throw FaultStatus.ToRpc(new FaultException(FaultReason.FailedPrecondition, "The machines would need each other in a circle, and none could be started first: db1 needs web1 needs db1."))
        : admin.Answer(request, new AddDependencyResponse { Machine = Web });

    public override Task<RemoveDependencyResponse> RemoveDependency(RemoveDependencyRequest request, ServerCallContext context) =>
        admin.Answer(request, new RemoveDependencyResponse { Machine = new DependentMachine { VmId = FakeAdmin.VmId, VmName = request.Vm, Stage = 1, ProbeText = "started" } });

    public override Task<SetProbeResponse> SetProbe(SetProbeRequest request, ServerCallContext context) => admin.Answer(request, new SetProbeResponse { Machine = Db });

    public override Task<GetDependenciesResponse> GetDependencies(GetDependenciesRequest request, ServerCallContext context) =>
        admin.Answer(request, new GetDependenciesResponse { Machines = { Db, Web } });

    public override Task<StartRecoveryResponse> StartRecovery(StartRecoveryRequest request, ServerCallContext context)
    {
        admin.IsRecoveryPlan = request.DryRun;
        return admin.Answer(request, new StartRecoveryResponse { Job = admin.Started("recovery", FakeAdmin.Machine) });
    }

    public override Task<ListRecoveriesResponse> ListRecoveries(ListRecoveriesRequest request, ServerCallContext context) => admin.Answer(request, new ListRecoveriesResponse
    {
        Runs = { new PastRecovery { JobId = FakeAdmin.JobId, CreateTime = FakeRetention.Noon, VirtualMachines = 2, PredictedSeconds = 50, PredictedP90Seconds = 80, ActualSeconds = 61 } },
    });

    private static RecoveryLeg Leg(string vm, bool start, double begin, double end) => new() { VmName = vm, Start = start, BeginSeconds = begin, EndSeconds = end };
}

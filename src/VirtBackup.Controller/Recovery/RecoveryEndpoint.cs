using VirtBackup.Catalog;
using VirtBackup.Catalog.Dependencies;
using VirtBackup.Controller.Admin;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Recovery;

/// <summary>What operators' tools can ask for about dependencies between machines, and about restoring several in order. Safe for concurrent use.</summary>
public sealed class RecoveryEndpoint
{
    private const int MachinesMax = 1000;
    private const int ParallelMax = 1000;
    private const int RunsShown = 50;

    private readonly CatalogDatabase _catalog;
    private readonly References _references;
    private readonly JobService _jobs;
    private readonly RecoveryService _recoveries;
    private readonly IEntropy _entropy;
    private readonly TimeProvider _time;
    private readonly DependencyOutlook _outlook;

    internal RecoveryEndpoint(CatalogDatabase catalog, References references, JobService jobs, RecoveryService recoveries, IEntropy entropy, TimeProvider time)
    {
        (_catalog, _references, _jobs, _recoveries, _entropy, _time) = (catalog, references, jobs, recoveries, entropy, time);
        _outlook = new DependencyOutlook(catalog.Dependencies, references);
    }

    public async ValueTask<AddDependencyResponse> AddDependencyAsync(AddDependencyRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var dependency = await FindAsync(request.Vm, request.Needs, cancellationToken);
        if (await _catalog.Dependencies.AddAsync(dependency, cancellationToken) is { } cycle)
        {
            var names = new List<string>();
            foreach (var machine in cycle)
            {
                names.Add(await _references.NameMachineAsync(machine, cancellationToken));
            }
            throw new FaultException(FaultReason.FailedPrecondition, cycle.Count <= 2
                ? $"'{names[0]}' cannot need itself."
                : $"The machines would need each other in a circle, and none could be started first: {string.Join(" needs ", names)}. Remove one of these dependencies before.");
        }
        return new AddDependencyResponse { Machine = await _outlook.DescribeOneAsync(dependency.VmId, cancellationToken) };
    }

    public async ValueTask<RemoveDependencyResponse> RemoveDependencyAsync(RemoveDependencyRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var dependency = await FindAsync(request.Vm, request.Needs, cancellationToken);
        return await _catalog.Dependencies.RemoveAsync(dependency, cancellationToken)
            ? new RemoveDependencyResponse { Machine = await _outlook.DescribeOneAsync(dependency.VmId, cancellationToken) }
            : throw new FaultException(FaultReason.NotFound, $"'{request.Vm}' does not need '{request.Needs}' by itself.");
    }

    public async ValueTask<SetProbeResponse> SetProbeAsync(SetProbeRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var vmId = await _references.FindMachineIdAsync(request.Vm, cancellationToken);
        if (request.Probe is { } probe)
        {
            await _catalog.Dependencies.SetProbeAsync(Probes.FromMessage(vmId, probe), cancellationToken);
        }
        else if (!await _catalog.Dependencies.RemoveProbeAsync(vmId, cancellationToken))
        {
            throw new FaultException(FaultReason.NotFound, $"'{request.Vm}' has no readiness probe.");
        }
        return new SetProbeResponse { Machine = await _outlook.DescribeOneAsync(vmId, cancellationToken) };
    }

    public async ValueTask<GetDependenciesResponse> GetDependenciesAsync(GetDependenciesRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        Id16? only = request.Vm.Length == 0 ? null : await _references.FindMachineIdAsync(request.Vm, cancellationToken);
        var response = new GetDependenciesResponse();
        response.Machines.Add(await _outlook.DescribeAsync(only, cancellationToken));
        return response;
    }

    public async ValueTask<StartRecoveryResponse> StartRecoveryAsync(StartRecoveryRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Parallel > ParallelMax || request.Vms.Count > MachinesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A run has at most {MachinesMax} machines, and restores at most {ParallelMax} side by side.");
        }
        var plan = await new RecoveryPlanner(_catalog, _references).MakeAsync(request, cancellationToken);
        if (plan.Machines.Count > MachinesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"There are {plan.Machines.Count} machines; a run has at most {MachinesMax}: name them.");
        }
        var job = await _jobs.CreateAsync(
            new JobRow
            {
                JobId = Id16.Create(_entropy),
                RequestId = WireText.ToRequestId(request.RequestId),
                Kind = JobKind.Recovery,
                VmName = plan.Machines.Count == 1 ? plan.Machines[0].VmName : $"{plan.Machines.Count} machines",
                Options = plan.ToBytes(),
                CreatedMs = _time.NowMs(),
            },
            cancellationToken);
        if (!_recoveries.Start(job))
        {
            const string TooMany = "Too many recoveries wait already: wait until some are over.";
            await _jobs.FinishAsync(job.JobId, JobPhase.Failed, [], TooMany, FaultReason.FailedPrecondition, cancellationToken);
            throw new FaultException(FaultReason.FailedPrecondition, TooMany);
        }
        return new StartRecoveryResponse { Job = AdminMessages.ToMessage(job, null) };
    }

    public async ValueTask<ListRecoveriesResponse> ListRecoveriesAsync(CancellationToken cancellationToken)
    {
        var response = new ListRecoveriesResponse();
        response.Runs.Add((await _catalog.Recoveries.ListScoresAsync(RunsShown, cancellationToken)).Select(static score => new PastRecovery
        {
            JobId = score.RunId.ToString(), CreateTime = WireText.ToTimestamp(score.MadeMs), VirtualMachines = (uint)score.Machines, PredictedSeconds = score.P50Seconds,
            PredictedP90Seconds = score.P90Seconds, ActualSeconds = score.ActualSeconds ?? 0,
        }));
        return response;
    }

    private async ValueTask<Dependency> FindAsync(string machine, string needs, CancellationToken cancellationToken) =>
        new(await _references.FindMachineIdAsync(machine, cancellationToken), await _references.FindMachineIdAsync(needs, cancellationToken));
}

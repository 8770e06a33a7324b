using System.Globalization;
using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Dependencies;
using VirtBackup.Controller.Admin;
using VirtBackup.Controller.Groups;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Recovery;

/// <summary>Settles which machines are restored from which points, where, and in which order they may start.</summary>
internal sealed class RecoveryPlanner(CatalogDatabase catalog, References references, GroupPoints groupPoints)
{
    /// <exception cref="FaultException">A machine has no point for it, an agent is not there, or the machines need each other in a circle.</exception>
    public async ValueTask<RecoveryPlan> MakeAsync(StartRecoveryRequest request, CancellationToken cancellationToken)
    {
        var options = request.Options ?? new RestoreOptions();
        if (options.OnlyDisks.Count > 0 || options.Disks.Count > 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, "A recovery run restores whole machines: single disks cannot be chosen.");
        }
        var (points, inconsistency) = request.GroupPoint.Length > 0 ? await FindCutAsync(request, cancellationToken) : (await FindPointsAsync(request, cancellationToken), "");
        if (points.Count == 0)
        {
            throw new FaultException(FaultReason.NotFound, "There is no machine with a recovery point.");
        }
        var graph = new DependencyGraph(await catalog.Dependencies.ListAsync(cancellationToken)).Among(points.Keys.ToHashSet());
        if (graph.FindCycle() is { } cycle)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machines need each other in a circle: {string.Join(" needs ", cycle.Append(cycle[0]).Select(machine => points[machine].VmName))}.");
        }
        var probes = await catalog.Dependencies.ListProbesAsync(cancellationToken);
        var folders = new HashSet<string>(StringComparer.Ordinal);
        var machines = new List<PlannedMachine>();
        foreach (var stage in graph.Stages(points.Keys))
        {
            foreach (var point in stage.Select(machine => points[machine]).OrderBy(static point => point.VmName, StringComparer.Ordinal))
            {
                References.RequireUnsealed(point);
                var name = (await catalog.Machines.FindAsync(point.VmId, cancellationToken))?.Name ?? point.VmName;
                machines.Add(new PlannedMachine(
                    point.VmId, name, point.PointId, point.CreatedMs, await FindAgentAsync(request.Agent, point, cancellationToken), graph.NeedsOf(point.VmId),
                    JobStarter.ToBytes(OptionsOf(options, name, folders)), Probes.ToMessage(probes.GetValueOrDefault(point.VmId)).ToByteArray()));
            }
        }
        return new RecoveryPlan(request.DryRun, (int)request.Parallel, machines) { Inconsistency = inconsistency };
    }

    private async ValueTask<Dictionary<Id16, PointRow>> FindPointsAsync(StartRecoveryRequest request, CancellationToken cancellationToken)
    {
        var points = new Dictionary<Id16, PointRow>();
        foreach (var machine in await ListMachinesAsync(request, cancellationToken))
        {
            points[machine] = await FindPointAsync(machine, request.At is null ? null : WireText.ToMs(request.At, "time"), cancellationToken);
        }
        return points;
    }

    private async ValueTask<(Dictionary<Id16, PointRow> Points, string Inconsistency)> FindCutAsync(StartRecoveryRequest request, CancellationToken cancellationToken)
    {
        if (request.Vms.Count > 0 || request.At is not null)
        {
            throw new FaultException(FaultReason.InvalidArgument, "The recovery point of a group says by itself which machines are restored, and from when.");
        }
        var run = await groupPoints.FindAsync(request.GroupPoint, cancellationToken);
        var cut = await groupPoints.DescribeAsync(run, cancellationToken);
        if (!cut.Complete)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The recovery point {cut.GroupPointId} of the group '{cut.Group}' is not complete: {cut.Inconsistency} Choose another one, or machines by name.");
        }
        var points = new Dictionary<Id16, PointRow>();
        foreach (var member in run.Members)
        {
            points[member.VmId] = await catalog.Points.FindAsync(member.PointId, cancellationToken)
                ?? throw new FaultException(FaultReason.NotFound, $"The recovery point of '{member.VmName}' has gone meanwhile.");
        }
        return (points, cut.Consistent ? "" : cut.Inconsistency);
    }

    private async ValueTask<IEnumerable<Id16>> ListMachinesAsync(StartRecoveryRequest request, CancellationToken cancellationToken)
    {
        if (request.Vms.Count == 0)
        {
            return await catalog.Points.ListMachinesAsync(cancellationToken);
        }
        var ids = new HashSet<Id16>();
        foreach (var reference in request.Vms)
        {
            ids.Add(await references.FindMachineIdAsync(reference, cancellationToken));
        }
        return ids;
    }

    private async ValueTask<PointRow> FindPointAsync(Id16 machine, long? atMs, CancellationToken cancellationToken)
    {
        if (atMs is not { } limit)
        {
            return await catalog.Points.FindNewestAsync(machine, null, cancellationToken)
                ?? throw new FaultException(FaultReason.NotFound, $"The virtual machine '{await references.NameMachineAsync(machine, cancellationToken)}' has no recovery point.");
        }
        var name = await references.NameMachineAsync(machine, cancellationToken);
        return (await catalog.Points.ListOfMachineAsync(machine, cancellationToken)).Where(point => !point.Forgotten && point.CreatedMs <= limit).MaxBy(static point => point.CreatedMs)
            ?? throw new FaultException(FaultReason.NotFound, string.Create(
                CultureInfo.InvariantCulture, $"The virtual machine '{name}' has no recovery point that is as old as {DateTimeOffset.FromUnixTimeMilliseconds(limit):yyyy-MM-dd HH:mm:ss} UTC."));
    }

    private async ValueTask<string> FindAgentAsync(string asked, PointRow point, CancellationToken cancellationToken)
    {
        var name = asked.Length > 0 ? asked : (await catalog.Machines.FindAsync(point.VmId, cancellationToken))?.Agent ?? point.Agent;
        if (name.Length == 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The virtual machine '{point.VmName}' was never on a host here: choose one with --agent.");
        }
        var agent = await catalog.Agents.FindAsync(name, cancellationToken) ?? throw new FaultException(FaultReason.NotFound, $"There is no agent called '{name}', on whose host '{point.VmName}' would be restored: choose one with --agent.");
        return agent.RevokedMs is null ? name : throw new FaultException(FaultReason.FailedPrecondition, $"The agent '{name}', on whose host '{point.VmName}' would be restored, is revoked: choose another one.");
    }

    private static RestoreOptions OptionsOf(RestoreOptions common, string machine, HashSet<string> folders)
    {
        var options = new RestoreOptions(common) { Start = true };
        if (common.Folder.Length > 0)
        {
            var folder = new string([.. machine.Select(static c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_' ? c : '_')]).TrimStart('.');
            for (var number = 2; folder.Length == 0 || !folders.Add(folder); number++)
            {
                folder = string.Create(CultureInfo.InvariantCulture, $"{(folder.Length == 0 ? "machine" : folder)}-{number}");
            }
            options.Folder = $"{common.Folder.TrimEnd('/')}/{folder}";
        }
        if (common.Name.Length > 0)
        {
            options.Name = machine + common.Name;
        }
        return options;
    }
}

using System.CommandLine;
using System.CommandLine.Completions;
using VirtBackup.Cli.Commands;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Completion;

/// <summary>
/// Completes names that only the controller knows: machines, recovery points, agents, jobs, rule sets, groups, peers. Asked while somebody types:
/// it answers within a second or not at all, and is silent about failures.
/// </summary>
internal sealed class DynamicValues(CliContext context)
{
    private const uint ListMax = 200;

    /// <summary>Seconds, for slow links to the controller; 1 by default.</summary>
    private const string PatienceVariable = "VIRTBACKUP_COMPLETION_SECONDS";

    private TimeSpan Patience => TimeSpan.FromSeconds(byte.TryParse(context.Variables(PatienceVariable), out var seconds) && seconds > 0 ? seconds : 1);

    /// <summary>Every argument and option that is named after a thing completes to things of that kind.</summary>
    public void AttachTo(Command command)
    {
        foreach (var argument in command.Arguments)
        {
            Attach(argument.Name, argument.CompletionSources);
        }
        foreach (var option in command.Options)
        {
            Attach(option.Name, option.CompletionSources);
        }
        foreach (var below in command.Subcommands)
        {
            AttachTo(below);
        }
    }

    private void Attach(string name, List<Func<CompletionContext, IEnumerable<CompletionItem>>> sources)
    {
        Func<ControllerConnection, CallBounds, Task<IEnumerable<string>>>? list = name switch
        {
            "vm" or "--vm" or "--needs" => ListMachinesAsync,
            "point" => ListPointsAsync,
            "agent" or "--agent" or "--to-host" => ListAgentsAsync,
            "job" => ListJobsAsync,
            "rule-set" or "--rule-set" => ListRuleSetsAsync,
            "peer" => ListPeersAsync,
            "group" => ListGroupsAsync,
            "group-point" or "--group-point" => ListGroupPointsAsync,
            _ => null,
        };
        if (list is not null)
        {
            sources.Add(asked => Ask(asked, list).Select(static value => new CompletionItem(value)));
        }
    }

    private IEnumerable<string> Ask(CompletionContext asked, Func<ControllerConnection, CallBounds, Task<IEnumerable<string>>> list)
    {
        try
        {
            using var patience = new CancellationTokenSource(Patience, context.Time);
            using var controller = ControllerConnection.Open(CredentialFolder.Locate(asked.ParseResult.GetValue(GlobalOptions.Credentials), context), context.Time);
            var bounds = new CallBounds(context.Time.GetUtcNow().UtcDateTime + Patience, patience.Token);
            return list(controller, bounds).WaitAsync(patience.Token).GetAwaiter().GetResult();
        }
        catch (Exception failed) when (failed is CommandFault or FaultException or Grpc.Core.RpcException or OperationCanceledException or IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private static async Task<IEnumerable<string>> ListMachinesAsync(ControllerConnection controller, CallBounds bounds) =>
        (await controller.Admin.ListVirtualMachinesAsync(new ListVirtualMachinesRequest { PageSize = ListMax }, null, bounds.Deadline, bounds.Cancel)).VirtualMachines.Select(static machine => machine.Name);

    private static async Task<IEnumerable<string>> ListPointsAsync(ControllerConnection controller, CallBounds bounds)
    {
        var points = (await controller.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest { PageSize = ListMax }, null, bounds.Deadline, bounds.Cancel)).RecoveryPoints;
        return points.Select(static point => $"{point.VmName}@latest").Distinct()
            .Concat(points.Select(static point => $"{point.VmName}@{point.Sequence}"))
            .Concat(points.Select(static point => Units.ShortId(point.PointId)));
    }

    private static async Task<IEnumerable<string>> ListAgentsAsync(ControllerConnection controller, CallBounds bounds) =>
        (await controller.Admin.ListAgentsAsync(new ListAgentsRequest { PageSize = ListMax }, null, bounds.Deadline, bounds.Cancel)).Agents.Where(static agent => !agent.Revoked).Select(static agent => agent.Name);

    private static async Task<IEnumerable<string>> ListJobsAsync(ControllerConnection controller, CallBounds bounds) =>
        (await controller.Admin.ListJobsAsync(new ListJobsRequest { PageSize = ListMax }, null, bounds.Deadline, bounds.Cancel)).Jobs.Select(static job => Units.ShortId(job.JobId));

    private static async Task<IEnumerable<string>> ListRuleSetsAsync(ControllerConnection controller, CallBounds bounds) =>
        (await controller.Retention.ListRuleSetsAsync(new ListRuleSetsRequest(), null, bounds.Deadline, bounds.Cancel)).RuleSets.Select(static set => set.Name);

    private static async Task<IEnumerable<string>> ListPeersAsync(ControllerConnection controller, CallBounds bounds) =>
        (await controller.Replication.ListPeersAsync(new ListPeersRequest(), null, bounds.Deadline, bounds.Cancel)).Peers.Select(static peer => peer.Name);

    private static async Task<IEnumerable<string>> ListGroupsAsync(ControllerConnection controller, CallBounds bounds) =>
        (await controller.Groups.ListGroupsAsync(new ListGroupsRequest(), null, bounds.Deadline, bounds.Cancel)).Groups.Select(static group => group.Name);

    private static async Task<IEnumerable<string>> ListGroupPointsAsync(ControllerConnection controller, CallBounds bounds) =>
        (await controller.Groups.ListGroupsAsync(new ListGroupsRequest(), null, bounds.Deadline, bounds.Cancel)).Groups
        .Where(static group => group.GroupPoints > 0).Select(static group => $"{group.Name}@latest");

    private readonly record struct CallBounds(DateTime Deadline, CancellationToken Cancel);
}

using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Connection;

/// <summary>Whole lists, fetched page by page.</summary>
internal static class Pages
{
    private const uint PageSize = 1000;

    public static Task<List<Agent>> ListAgentsAsync(this ControllerConnection controller, CancellationToken cancellationToken) =>
        CollectAsync(int.MaxValue, async (size, token) =>
        {
            var page = await controller.CallAsync(
                controller.Admin.ListAgentsAsync(new ListAgentsRequest { PageSize = size, PageToken = token }, cancellationToken: cancellationToken), cancellationToken);
            return ((IEnumerable<Agent>)page.Agents, page.NextPageToken);
        });

    public static Task<List<VirtualMachine>> ListMachinesAsync(this ControllerConnection controller, CancellationToken cancellationToken) =>
        CollectAsync(int.MaxValue, async (size, token) =>
        {
            var page = await controller.CallAsync(
                controller.Admin.ListVirtualMachinesAsync(new ListVirtualMachinesRequest { PageSize = size, PageToken = token }, cancellationToken: cancellationToken),
                cancellationToken);
            return ((IEnumerable<VirtualMachine>)page.VirtualMachines, page.NextPageToken);
        });

    public static Task<List<RecoveryPoint>> ListPointsAsync(
        this ControllerConnection controller, string vm, bool includeForgotten, int limit, CancellationToken cancellationToken) =>
        CollectAsync(limit, async (size, token) =>
        {
            var request = new ListRecoveryPointsRequest { Vm = vm, IncludeForgotten = includeForgotten, PageSize = size, PageToken = token };
            var page = await controller.CallAsync(
                controller.Admin.ListRecoveryPointsAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines);
            return ((IEnumerable<RecoveryPoint>)page.RecoveryPoints, page.NextPageToken);
        });

    public static Task<List<Job>> ListJobsAsync(
        this ControllerConnection controller, string vm, bool runningOnly, int limit, Func<Job, bool> wanted, CancellationToken cancellationToken) =>
        CollectAsync(limit, async (size, token) =>
        {
            var request = new ListJobsRequest { Vm = vm, RunningOnly = runningOnly, PageSize = size, PageToken = token };
            var page = await controller.CallAsync(
                controller.Admin.ListJobsAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines);
            return (page.Jobs.Where(wanted), page.NextPageToken);
        });

    public static Task<List<FoundDamage>> ListDamagesAsync(this ControllerConnection controller, bool includeHealed, CancellationToken cancellationToken) =>
        CollectAsync(int.MaxValue, async (size, token) =>
        {
            var request = new ListDamagesRequest { IncludeHealed = includeHealed, PageSize = size, PageToken = token };
            var page = await controller.CallAsync(controller.Admin.ListDamagesAsync(request, cancellationToken: cancellationToken), cancellationToken);
            return ((IEnumerable<FoundDamage>)page.Damages, page.NextPageToken);
        });

    public static Task<List<Migration>> ListMigrationsAsync(this ControllerConnection controller, string vm, int limit, CancellationToken cancellationToken) =>
        CollectAsync(limit, async (size, token) =>
        {
            var request = new ListMigrationsRequest { Vm = vm, PageSize = size, PageToken = token };
            var page = await controller.CallAsync(controller.Migrations.ListMigrationsAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines);
            return ((IEnumerable<Migration>)page.Migrations, page.NextPageToken);
        });

    private static async Task<List<T>> CollectAsync<T>(int limit, Func<uint, string, Task<(IEnumerable<T> Items, string Next)>> fetch)
    {
        var all = new List<T>();
        var token = "";
        do
        {
            var (items, next) = await fetch((uint)Math.Min(PageSize, limit), token);
            all.AddRange(items.Take(limit - all.Count));
            if (next.Length > 0 && next == token)
            {
                throw new CommandFault(ExitCode.Failed, "The controller sent the same page of a list twice.");
            }
            token = next;
        }
        while (token.Length > 0 && all.Count < limit);
        return all;
    }
}

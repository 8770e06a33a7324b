using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using Job = VirtBackup.Protocol.Admin.V1.Job;
using Task = System.Threading.Tasks.Task;
using Work = VirtBackup.Protocol.Agent.V1.Job;

namespace VirtBackup.Controller.Tests.Groups;

/// <summary>A controller that runs, two agents that are connected, and the group 'shop' of their machines.</summary>
internal sealed class Site : IAsyncDisposable
{
    private readonly CancellationTokenSource _stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
    private readonly HashSet<ControlStream> _ended = [];
    private Task _running;

    private Site(World world, List<TestAgent> agents, List<Id16> boots, List<ControlStream> streams)
    {
        (World, Agents, Boots, Streams) = (world, agents, boots, streams);
        _running = world.Role.RunAsync(_stop.Token);
    }

    public World World { get; }

    public IReadOnlyList<TestAgent> Agents { get; }

    public IReadOnlyList<Id16> Boots { get; }

    public IReadOnlyList<ControlStream> Streams { get; }

    public static async Task<Site> CreateAsync(AgentCapabilities? capabilities = null)
    {
        var world = await World.CreateAsync();
        var (agents, boots, streams) = (new List<TestAgent>(), new List<Id16>(), new List<ControlStream>());
        foreach (var name in new[] { "host-1", "host-2" })
        {
            agents.Add(await world.EnrollAsync(name));
            boots.Add(Id16.Create(SystemEntropy.Instance));
            streams.Add(await ControlStream.OpenAsync(agents[^1], boots[^1], capabilities ?? new AgentCapabilities { BackupOptions = (uint)BackupOptions.GroupRunIdFieldNumber }));
        }
        var request = new CreateGroupRequest { Name = "shop" };
        request.Vms.Add(agents.Select(agent => agent.VmName));
        await world.Role.Groups.CreateGroupAsync(request, World.Token);
        return new Site(world, agents, boots, streams);
    }

    public async Task<Job> StartAsync(string requestId = "") =>
        (await World.Role.Groups.StartGroupBackupAsync(new StartGroupBackupRequest { Name = "shop", RequestId = requestId }, World.Token)).Job;

    /// <summary>What each agent is told to do, once all are known to have passed the step.</summary>
    public async Task<IReadOnlyList<Work>> ReceiveAsync(CutStep passed)
    {
        var work = new List<Work>();
        foreach (var stream in Streams)
        {
            work.Add((await stream.ReceiveAssignmentsAsync(list => list.Jobs is [{ } job] && job.CutStepPassed == passed)).Jobs[0]);
        }
        return work;
    }

    public async Task ReachAsync(IReadOnlyList<Work> work, CutStep step, bool held = false)
    {
        foreach (var (agent, job) in Agents.Zip(work))
        {
            await agent.ReportAsync(job.JobId, 1, JobState.Running, report => (report.CutStep, report.CutHeld) = (step, held));
        }
    }

    /// <summary>Both machines through all steps up to this one.</summary>
    /// <param name="skew">What passes between the order to cut and the answers.</param>
    public async Task<IReadOnlyList<Work>> PassAsync(CutStep last, TimeSpan skew = default)
    {
        var work = await ReceiveAsync(CutStep.Unspecified);
        for (var step = CutStep.Ready; step <= last; step++)
        {
            if (step == CutStep.Cut)
            {
                World.Time.Advance(skew);
            }
            await ReachAsync(work, step);
            await ReceiveAsync(step);
        }
        return work;
    }

    public async Task<IReadOnlyList<Work>> PassAllAsync(bool held, TimeSpan skew = default)
    {
        var work = await PassAsync(CutStep.Cut, skew);
        await ReachAsync(work, CutStep.Released, held);
        return work;
    }

    public static async Task StoreAsync(TestAgent agent, Work work, bool cutAnew = false)
    {
        var session = await StoreTests.BeginAsync(agent, new Job { JobId = work.JobId, PointId = work.Backup.PointId, VmId = work.Backup.VmId });
        var backup = new SealedBackup(agent, session, Id16.Parse(work.Backup.PointId), 1, StoreTests.NewDisk());
        await backup.UploadAsync();
        await backup.CommitAsync();
        await agent.ReportAsync(work.JobId, 1, JobState.Succeeded, report => report.Backup = new BackupResult { PointId = work.Backup.PointId, CutAnew = cutAnew });
    }

    /// <summary>The job at its end.</summary>
    public async Task<Job> EndAsync(Job job)
    {
        Job? last = null;
        await foreach (var news in World.Role.Admin.WatchJobAsync(new WatchJobRequest { JobId = job.JobId }, World.Token))
        {
            last = news.Job;
        }
        return last!;
    }

    /// <summary>The link to an agent breaks.</summary>
    public async Task BreakAsync(int agent)
    {
        if (_ended.Add(Streams[agent]))
        {
            await Streams[agent].DisposeAsync();
        }
    }

    /// <summary>The controller is gone and comes back; nobody has told the agents.</summary>
    public async Task RestartAsync()
    {
        await StopAsync();
        await World.RestartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        await World.DisposeAsync();
        _stop.Dispose();
    }

    private async Task StopAsync()
    {
        for (var agent = 0; agent < Streams.Count; agent++)
        {
            await BreakAsync(agent);
        }
        if (!_stop.IsCancellationRequested)
        {
            await _stop.CancelAsync();
        }
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _running = Task.CompletedTask;
    }
}

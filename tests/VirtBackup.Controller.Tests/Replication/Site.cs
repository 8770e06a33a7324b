using Google.Protobuf;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Tests.Replication;

/// <summary>A controller that runs, with ways to others.</summary>
internal sealed class Site : IAsyncDisposable
{
    private CancellationTokenSource _stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
    private Task _running = Task.CompletedTask;

    private Site(string name, World world) => (Name, World) = (name, world);

    public string Name { get; }

    public World World { get; }

    public ControllerRole Role => World.Role;

    /// <param name="retains">Whether its store's provider retains objects.</param>
    public static async Task<Site> StartAsync(string name, bool retains = false)
    {
        var site = new Site(name, await World.CreateAsync(retains: retains));
        site._running = site.Role.RunAsync(site._stop.Token);
        return site;
    }

    /// <summary>This site may call the other one, which allows it these machines; none: all.</summary>
    public async Task JoinAsync(Site there, params string[] machines)
    {
        var now = World.Time.GetUtcNow().ToUnixTimeMilliseconds();
        await there.Role.Catalog.Peers.EnsureAsync(Name, now, World.Token);
        await Role.Catalog.Peers.SetControllerAsync(there.Name, "there:1", there.World.RepositoryId, now, World.Token);
        World.Peers.Connect(there.Name, there.World, Name);
        await there.AllowAsync(Name, machines);
    }

    /// <summary>This site may call the other one, which has no way to it, and offers it streams to ask on for all machines.</summary>
    public async Task OfferAsync(Site there)
    {
        await JoinAsync(there);
        await there.Role.Catalog.Peers.EnsureAsync(Name, 1, World.Token);
        await AllowAsync(there.Name);
        await Role.PeerAdmin.OfferToPeerAsync(new OfferToPeerRequest { Name = there.Name, Offer = true }, World.Token);
    }

    public async Task AllowAsync(string peer, params string[] machines)
    {
        var request = new AllowPeerRequest { Name = peer, All = machines.Length == 0 };
        request.Vms.Add(machines);
        await Role.PeerAdmin.AllowPeerAsync(request, World.Token);
    }

    public async Task SetRuleAsync(string peer, Action<ReplicationRule>? choose = null)
    {
        // Nothing starts by itself here: the test does.
        var rule = new ReplicationRule { Peer = peer, Paused = true };
        choose?.Invoke(rule);
        await Role.Rules.SetReplicationRuleAsync(new SetReplicationRuleRequest { Rule = rule }, World.Token);
    }

    public async Task<Job> StartPullAsync(string peer, Action<StartReplicationRequest>? choose = null)
    {
        var request = new StartReplicationRequest { Peer = peer };
        choose?.Invoke(request);
        return (await Role.Rules.StartReplicationAsync(request, World.Token)).Job;
    }

    public async Task<ReplicationResult> PullAsync(string peer, Action<StartReplicationRequest>? choose = null)
    {
        var job = await WaitAsync(await StartPullAsync(peer, choose));
        Assert.True(job.State == JobState.Succeeded, job.FailureMessage);
        return job.Result.Replication;
    }

    public async Task<Job> WaitAsync(Job job)
    {
        await foreach (var response in Role.Admin.WatchJobAsync(new WatchJobRequest { JobId = job.JobId }, World.Token))
        {
            job = response.Job;
        }
        return job;
    }

    public async Task<IReadOnlyList<RecoveryPoint>> ListAsync() =>
        [.. (await Role.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest(), World.Token)).RecoveryPoints];

    public async Task<UnlockPeerResponse> UnlockAsync(Site origin) =>
        await Role.PeerAdmin.UnlockPeerAsync(new UnlockPeerRequest { RecoveryKit = ByteString.CopyFrom(origin.World.WriteKit()) }, World.Token);

    public async Task RestartAsync(bool loseCatalog = false)
    {
        await StopAsync();
        await World.RestartAsync(loseCatalog);
        _stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
        _running = Role.RunAsync(_stop.Token);
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        await World.DisposeAsync();
    }

    private async Task StopAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stop.Dispose();
    }
}

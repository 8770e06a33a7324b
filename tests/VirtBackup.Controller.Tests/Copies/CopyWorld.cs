using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Controller.Tests.Copies;

/// <summary>A controller that runs, with one machine and copy stores in memory.</summary>
internal sealed class CopyWorld : IAsyncDisposable
{
    private static int _seed;

    private CancellationTokenSource _stop = null!;
    private Task _running = Task.CompletedTask;

    private CopyWorld(World world, TestAgent agent) => (World, Agent) = (world, agent);

    public World World { get; }

    public TestAgent Agent { get; }

    public static async Task<CopyWorld> CreateAsync()
    {
        var world = await World.CreateAsync();
        var copies = new CopyWorld(world, await world.EnrollAsync());
        copies.Start();
        return copies;
    }

    public static string LocationOf(string store) => $"/copies/{store}";

    public SimulatedStore At(string store) => World.Places.At(LocationOf(store));

    public async Task<CopyStore> AddAsync(string name, bool offSite = false) =>
        (await World.Role.CopyStores.AddCopyStoreAsync(new AddCopyStoreRequest { Name = name, Location = LocationOf(name), OffSite = offSite }, World.Token)).Store;

    public async Task<CopyStore> GetAsync(string name) => (await World.Role.CopyStores.GetCopyStoreAsync(new GetCopyStoreRequest { Name = name }, World.Token)).Store;

    public async Task<CopyPolicy> SetAsync(CopyPolicy policy) =>
        (await World.Role.CopyPolicies.SetCopyPolicyAsync(new SetCopyPolicyRequest { Policy = policy }, World.Token)).Policy;

    public async Task<CopyStatus> StatusAsync() => Assert.Single((await World.Role.CopyPolicies.GetCopyStatusAsync(new GetCopyStatusRequest(), World.Token)).Machines);

    public static byte[] NewDisk()
    {
        var disk = new byte[20 * 4096];
        new Random(Interlocked.Increment(ref _seed)).NextBytes(disk);
        return disk;
    }

    /// <summary>A recovery point that is newer than all before.</summary>
    public async Task<string> BackUpAsync(byte[]? disk = null)
    {
        World.Time.Advance(TimeSpan.FromSeconds(1));
        return (await StoreTests.BackUpAsync(Agent, disk ?? NewDisk())).PointId;
    }

    /// <summary>Time passes until it is so: the controller works beside it.</summary>
    public async Task UntilAsync(Func<Task<bool>> condition, TimeSpan? step = null)
    {
        for (var i = 0; !await condition(); i++)
        {
            Assert.True(i < 1000, "It did not happen.");
            World.Time.Advance(step ?? TimeSpan.FromSeconds(1));
            await Task.Delay(5, World.Token);
        }
    }

    public Task UntilCompleteAsync(string store, ulong points) => UntilAsync(async () => await GetAsync(store) is { PointsMissing: 0, Open: true } now && now.Points == points && now.Problem.Length == 0);

    public async Task<CopyResult> RunAsync(string store)
    {
        await UntilAsync(async () => (await GetAsync(store)).Open);
        var job = (await World.Role.CopyStores.StartCopyAsync(new StartCopyRequest { Store = store }, World.Token)).Job;
        await UntilAsync(async () => (job = await World.GetJobAsync(job.JobId)).State is not (JobState.Queued or JobState.Running));
        Assert.True(job.State == JobState.Succeeded, job.FailureMessage);
        Assert.Equal("copy", job.Kind);
        return job.Result.Copy;
    }

    public async Task RestartAsync(bool loseCatalog = false, bool loseIndex = false)
    {
        await StopAsync();
        await World.RestartAsync(loseCatalog, loseIndex);
        Start();
    }

    public async Task StopAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        _stop.Dispose();
        _stop = new CancellationTokenSource();
    }

    /// <summary>Flips a bit of one chunk's payload in a store; the pack's key.</summary>
    public static async Task<string> HurtAsync(SimulatedStore store)
    {
        await foreach (var info in store.ListAsync(ObjectKeys.PacksPrefix, World.Token))
        {
            var pack = await store.ReadAllAsync(info.Key, Limits.PackBytesMax, World.Token);
            if (PackFooter.Parse(pack, pack.Length) is { Kind: RecordKind.Data } footer)
            {
                pack[footer.Entries[3].Offset + RecordHeader.Size + 99] ^= 1;
                await store.DeleteAsync(info.Key, World.Token);
                Assert.True(await store.PutAsync(info.Key, pack, World.Token));
                return info.Key;
            }
        }
        throw new InvalidOperationException("There is no data.");
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        _stop.Dispose();
        await World.DisposeAsync();
    }

    private void Start()
    {
        _stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
        _running = World.Role.RunAsync(_stop.Token);
    }
}

using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using VirtBackup.Catalog;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository;
using VirtBackup.Repository.Index;
using VirtBackup.Sealing;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Controller.Tests.Fixtures;

/// <summary>A whole controller over a simulated store, databases in memory and a clock that the test moves.</summary>
internal sealed class World : IAsyncDisposable
{
    private static int _count;

    private readonly string _name = $"controller {Interlocked.Increment(ref _count)}";
    private readonly EscrowKeys _escrow = EscrowKeys.Create(SystemEntropy.Instance);
    private SqliteDatabase _index;
    private SqliteDatabase _catalog;

    private World(Func<SimulatedOperation, FaultReason?>? inject)
    {
        Store = new SimulatedStore(new SimulatedStoreOptions { Inject = inject });
        Time = new FakeTimeProvider(new DateTimeOffset(2031, 5, 4, 3, 2, 1, TimeSpan.Zero));
        Authority = CertificateAuthority.Create(SystemEntropy.Instance, Time);
        _index = SqliteDatabase.OpenInMemory(_name + " index", RepositoryIndex.Schema);
        _catalog = SqliteDatabase.OpenInMemory(_name + " catalog", CatalogSchema.Migrations);
    }

    public static CancellationToken Token => TestContext.Current.CancellationToken;

    public FakeTimeProvider Time { get; }

    public CertificateAuthority Authority { get; }

    public SimulatedStore Store { get; }

    public BackupRepository Repository { get; private set; } = null!;

    public ControllerRole Role { get; private set; } = null!;

    /// <summary>The ways to other worlds.</summary>
    public MemoryPeers Peers { get; } = new();

    public MemoryOriginKeys OriginKeys { get; } = new();

    public Id16 RepositoryId => Repository.Head.Uuid;

    /// <summary>What opens this repository anywhere.</summary>
    public byte[] WriteKit()
    {
        var secret = new byte[RootSecret.Size];
        _escrow.Root.CopyTo(secret);
        using var kit = RecoveryKit.Create(RepositoryId, secret, Authority);
        return RecoveryKitText.Format(kit);
    }

    /// <param name="inject">See <see cref="SimulatedStoreOptions.Inject"/>.</param>
    public static async Task<World> CreateAsync(Func<SimulatedOperation, FaultReason?>? inject = null)
    {
        var world = new World(inject);
        var restoreKey = world._escrow.RestoreKey;
        var head = new RepositoryHead { Uuid = Id16.Create(SystemEntropy.Instance), Created = world.Time.GetUtcNow(), RestoreKey = restoreKey.Public.SubjectPublicKeyInfo.ToArray() };
        await RepositoryInitializer.InitializeAsync(world.Store, head, Keyring.Wrap(restoreKey, world._escrow.Root, SystemEntropy.Instance).ToBytes(), Token);
        await world.StartAsync();
        return world;
    }

    /// <summary>The controller stops and starts again; what it keeps on disk stays.</summary>
    public async Task RestartAsync(bool loseCatalog = false, bool loseIndex = false)
    {
        await Role.DisposeAsync();
        await Repository.DisposeAsync();
        if (loseCatalog)
        {
            await _catalog.DisposeAsync();
            _catalog = SqliteDatabase.OpenInMemory(_name + " new catalog", CatalogSchema.Migrations);
        }
        if (loseIndex)
        {
            await _index.DisposeAsync();
            _index = SqliteDatabase.OpenInMemory(_name + " new index", RepositoryIndex.Schema);
        }
        await StartAsync();
    }

    /// <summary>An enrolled agent that has one virtual machine, called after it.</summary>
    public async Task<TestAgent> EnrollAsync(string name = "host-1")
    {
        var agent = await TestAgent.EnrollAsync(this, name, await NewTokenAsync(name));
        await agent.ReportInventoryAsync();
        return agent;
    }

    public async Task<string> NewTokenAsync(string name = "") => (await Role.Admin.CreateJoinTokenAsync(new CreateJoinTokenRequest { AgentName = name }, Token)).JoinToken;

    public async Task<Job> StartBackupAsync(TestAgent agent, string requestId = "") =>
        (await Role.Admin.StartBackupAsync(new StartBackupRequest { Vm = agent.VmName, RequestId = requestId }, Token)).Job;

    public async Task<Job> GetJobAsync(string jobId) => (await Role.Admin.GetJobAsync(new GetJobRequest { JobId = jobId }, Token)).Job;

    public async ValueTask DisposeAsync()
    {
        await Role.DisposeAsync();
        await Repository.DisposeAsync();
        await _index.DisposeAsync();
        await _catalog.DisposeAsync();
        _escrow.Dispose();
        Authority.Dispose();
    }

    private async Task StartAsync()
    {
        Repository = await BackupRepository.OpenAsync(Store, _index, new RepositoryOptions(), Time, SystemEntropy.Instance, Token);
        Role = new ControllerRole(new ControllerParts
        {
            Identity = new ControllerIdentity(Repository.Head.Uuid, "1.2.3", $"{IPAddress.Loopback}:7443", "memory"),
            Authority = Authority,
            Escrow = _escrow,
            Store = Store,
            Repository = Repository,
            CatalogDatabase = _catalog,
            Entropy = SystemEntropy.Instance,
            Time = Time,
            Peers = Peers,
            OriginKeys = OriginKeys,
            Loggers = NullLoggerFactory.Instance,
        });
        await Role.StartAsync(Token);
    }
}

using Microsoft.Extensions.Logging.Abstractions;
using VirtBackup.Catalog;
using VirtBackup.Controller;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Identity;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Repository;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Sealing;

namespace VirtBackup.Proofs.Installation;

/// <summary>The controller's machine: the real role over a given store, with databases in memory that outlive its crashes.</summary>
internal sealed class Site : IAsyncDisposable
{
    private readonly IEntropy _entropy;
    private readonly TimeProvider _time;
    private readonly int _packBytes;
    private readonly CertificateAuthority _authority;
    private readonly List<(SqliteDatabase Database, SchemaMigrations Schema)> _taken = [];
    private SqliteDatabase? _index;
    private SqliteDatabase? _catalog;
    private (ControllerRole Role, Power Power)? _running;

    public Site(IEntropy entropy, TimeProvider time, int packBytes)
    {
        (_entropy, _time, _packBytes) = (entropy, time, packBytes);
        _authority = CertificateAuthority.Create(entropy, time);
        Escrow = EscrowKeys.Create(entropy);
        Calendar = new Calendar(time);
    }

    /// <summary>The controller's time.</summary>
    public TimeProvider Time => _time;

    /// <summary>The repository's time.</summary>
    public Calendar Calendar { get; }

    /// <summary>Plants a defect between the repository and its index.</summary>
    public Func<IDatabase, IDatabase> AlterIndex { get; init; } = static index => index;

    /// <summary>Plants a defect between the controller and its store.</summary>
    public Func<IObjectStore, IObjectStore> AlterStore { get; init; } = static store => store;

    public EscrowKeys Escrow { get; }

    /// <summary>Where the controller looks for copies of damaged records.</summary>
    public IReadOnlyList<IRecordSource> RecordSources { get; init; } = [];

    /// <summary>The present store.</summary>
    public IObjectStore Store { get; private set; } = null!;

    public BackupRepository Repository { get; private set; } = null!;

    public ControllerRole Role => _running?.Role ?? throw new InvalidOperationException("The controller is down.");

    /// <summary>The controller, if it runs and has power.</summary>
    public (ControllerRole Role, Power Power)? Connect() => _running is { Power.IsOff: false } running ? running : null;

    public async Task InitializeAsync(IObjectStore store)
    {
        var restoreKey = Escrow.RestoreKey;
        var head = new RepositoryHead { Uuid = Id16.Create(_entropy), Created = _time.GetUtcNow(), RestoreKey = restoreKey.Public.SubjectPublicKeyInfo.ToArray() };
        await RepositoryInitializer.InitializeAsync(store, head, Keyring.Wrap(restoreKey, Escrow.Root, _entropy).ToBytes(), CancellationToken.None);
    }

    /// <summary>Starts the controller on a store. What ran before must have lost its power.</summary>
    public async Task BootAsync(IObjectStore store, Power power, bool loseIndex, bool loseCatalog, bool rebuild = false)
    {
        _running = null;
        Store = store = AlterStore(store);
        if (loseIndex || _index is null)
        {
            _index = await TakeAsync(RepositoryIndex.Schema);
        }
        if (loseCatalog || _catalog is null)
        {
            _catalog = await TakeAsync(CatalogSchema.Migrations);
        }
        Repository = await BackupRepository.OpenAsync(
            store, AlterIndex(new PoweredDatabase(_index, power)), new RepositoryOptions { PackBytesTarget = _packBytes, RebuildIndex = rebuild }, Calendar, _entropy, CancellationToken.None);
        var role = new ControllerRole(new ControllerParts
        {
            Identity = new ControllerIdentity(Repository.Head.Uuid, "1.0.0", "127.0.0.1:7443", "memory"),
            Authority = _authority,
            Escrow = Escrow,
            Store = store,
            Repository = Repository,
            CatalogDatabase = new PoweredDatabase(_catalog, power),
            Entropy = _entropy,
            Time = _time,
            RecordSources = RecordSources,
            Loggers = NullLoggerFactory.Instance,
        });
        await role.StartAsync(CancellationToken.None);
        _running = (role, power);
    }

    /// <summary>What the index says, as sorted lines.</summary>
    public ValueTask<IReadOnlyList<string>> DumpAsync() => IndexDump.WriteAsync(_index!, CancellationToken.None);

    /// <summary>What an index says that is made anew from the store. The controller is no longer the owner then.</summary>
    public async Task<IReadOnlyList<string>> DumpAnewAsync()
    {
        var index = await TakeAsync(RepositoryIndex.Schema);
        await using var repository = await BackupRepository.OpenAsync(
            Store, index, new RepositoryOptions { PackBytesTarget = _packBytes }, Calendar, _entropy, CancellationToken.None);
        return await IndexDump.WriteAsync(index, CancellationToken.None);
    }

    public async ValueTask DisposeAsync()
    {
        _running?.Power.TurnOff();
        foreach (var (database, schema) in _taken)
        {
            await SpareDatabases.GiveBackAsync(database, schema);
        }
        Escrow.Dispose();
        _authority.Dispose();
    }

    private async ValueTask<SqliteDatabase> TakeAsync(SchemaMigrations schema)
    {
        var database = await SpareDatabases.TakeAsync(schema);
        _taken.Add((database, schema));
        return database;
    }
}

using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Admin;
using VirtBackup.Controller.Collection;
using VirtBackup.Controller.Control;
using VirtBackup.Controller.Copies;
using VirtBackup.Controller.Enrollment;
using VirtBackup.Controller.Groups;
using VirtBackup.Controller.Migrations;
using VirtBackup.Controller.Recovery;
using VirtBackup.Controller.Replication;
using VirtBackup.Controller.Replication.Source;
using VirtBackup.Controller.Retention;
using VirtBackup.Controller.Scrubbing;
using VirtBackup.Controller.Signals;
using VirtBackup.Controller.Store;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Identity;
using VirtBackup.Repository;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Sealing;

namespace VirtBackup.Controller;

/// <summary>What a controller is made of. Everything stays its owner's to dispose and must outlive the role.</summary>
public sealed record ControllerParts
{
    public required ControllerIdentity Identity { get; init; }

    public required CertificateAuthority Authority { get; init; }

    public required EscrowKeys Escrow { get; init; }

    /// <summary>The repository's objects.</summary>
    public required IObjectStore Store { get; init; }

    public required BackupRepository Repository { get; init; }

    /// <summary>Opened with <see cref="CatalogSchema.Migrations"/>.</summary>
    public required IDatabase CatalogDatabase { get; init; }

    /// <summary>Names the host's boot, within which <see cref="Time"/>'s timestamps go on; empty: unknown.</summary>
    public string Boot { get; init; } = "";

    public required IEntropy Entropy { get; init; }

    public required TimeProvider Time { get; init; }

    public ScrubSettings Scrub { get; init; } = new();

    public GroupCutLimits GroupCut { get; init; } = new();

    /// <summary>Where copies of damaged records are looked for.</summary>
    public IReadOnlyList<IRecordSource> RecordSources { get; init; } = [];

    /// <summary>The way to other controllers; null: this one calls none.</summary>
    public IPeerDialer? Peers { get; init; }

    /// <summary>Where the keys of other repositories are kept; null: nowhere, and none are taken.</summary>
    public IOriginKeyFiles? OriginKeys { get; init; }

    /// <summary>The way to second places of the repository; null: there are none.</summary>
    public ICopyPlaces? CopyPlaces { get; init; }

    public required ILoggerFactory Loggers { get; init; }
}

/// <summary>
/// The controller, whatever carries its calls: composed here and nowhere else. <see cref="StartAsync"/> first, then
/// <see cref="RunAsync"/> beside the calls.
/// </summary>
public sealed partial class ControllerRole : IAsyncDisposable
{
    private readonly ControllerParts _parts;
    private readonly Keyholder _keyholder;
    private readonly SessionRegistry _sessions;
    private readonly PointDescriber _describer;
    private readonly VerifyService _verifications;
    private readonly TrustedClock _clock;
    private readonly LockEnforcement _enforcement;
    private readonly PointCustody _custody;
    private readonly RunSignals _signals;
    private readonly RetentionRun _retentionRun;
    private readonly RetentionService _retention;
    private readonly CollectionService _collections;
    private readonly CopyService _copies;
    private readonly ScrubService _scrubs;
    private readonly RecoveryService _recoveries;
    private readonly MigrationPlanner _migrationPlanner;
    private readonly MigrationOwners _owners = new();
    private readonly MigrationRunner _migrations;
    private readonly GroupBackups _groups;
    private readonly ReplicationService _replications;
    private readonly ReplicationSchedule _replicationSchedule;
    private readonly OriginUnlocking _unlocking;
    private readonly PeerRecordSource _records;
    private readonly ILogger _logger;

    public ControllerRole(ControllerParts parts)
    {
        ArgumentNullException.ThrowIfNull(parts);
        _parts = parts;
        var (entropy, time, loggers) = (parts.Entropy, parts.Time, parts.Loggers);
        _logger = loggers.CreateLogger<ControllerRole>();
        Catalog = new CatalogDatabase(parts.CatalogDatabase);
        Connections = new AgentConnections();
        Revoked = new MemoryRevocationList();
        Chain = new ChainPolicy(parts.Authority.Certificate, time, Revoked);
        _keyholder = new Keyholder(parts.Store, parts.Escrow, parts.Repository.Head.Uuid);
        Jobs = new JobService(Catalog, Connections, new RestoreEstimates(Catalog.Estimates, time, loggers.CreateLogger<RestoreEstimates>()), time, loggers.CreateLogger<JobService>());
        var traffic = new TrafficLog(parts.Repository, loggers.CreateLogger<TrafficLog>());
        _sessions = new SessionRegistry(parts.Repository, _keyholder, Catalog, Jobs, traffic, entropy, time, loggers.CreateLogger<SessionRegistry>());
        _describer = new PointDescriber(parts.Repository, parts.Store, _keyholder, Catalog);
        _clock = new TrustedClock(Catalog.Time, parts.Boot, time, loggers.CreateLogger<TrustedClock>());
        var locks = new PointLocks(parts.Store);
        _enforcement = new LockEnforcement(parts.Repository, locks, _clock, time, loggers.CreateLogger<LockEnforcement>());
        _custody = new PointCustody(parts.Repository, locks, _enforcement, Catalog, _clock, entropy);
        _signals = new RunSignals(Catalog, _custody, Jobs, time, loggers.CreateLogger<RunSignals>());
        var alerts = new TrackingAlerts(Catalog, Jobs, time, loggers.CreateLogger<TrackingAlerts>());
        Store = new StoreEndpoint(
            parts.Repository, parts.Store, Catalog, _keyholder, Jobs, _sessions, _describer, _signals, alerts, traffic, entropy, time, loggers.CreateLogger<CommitService>());
        var inventory = new InventoryIntake(Catalog.Agents, Catalog.Machines, Connections, _owners, loggers.CreateLogger<InventoryIntake>());
        Agents = new AgentEndpoint(parts.Identity, Catalog.Agents, Connections, Jobs, inventory, alerts, time, loggers.CreateLogger<AgentEndpoint>());
        var tokens = new TokenService(parts.Identity, parts.Authority, Catalog.Tokens, entropy, time, loggers.CreateLogger<TokenService>());
        Enrollment = new EnrollmentService(
            parts.Authority, tokens, Catalog.Agents, Connections, Revoked, parts.Store, time, loggers.CreateLogger<EnrollmentService>());
        Peers = new PeerEnrollment(parts.Identity, parts.Authority, tokens, Catalog.Peers, Revoked, time, loggers.CreateLogger<PeerEnrollment>());
        _verifications = new VerifyService(parts.Repository, parts.Store, _keyholder, Catalog, Jobs, time, loggers.CreateLogger<VerifyService>());
        var references = new References(Catalog);
        var gathering = new PointGathering(parts.Repository, Catalog, Jobs, _sessions);
        _retentionRun = new RetentionRun(gathering, _custody, locks, Catalog, _clock, loggers.CreateLogger<RetentionRun>());
        _retention = new RetentionService(_retentionRun, Jobs, time, loggers.CreateLogger<RetentionService>());
        _collections = new CollectionService(parts.Repository, Catalog.Points, Jobs, traffic, _clock, time, loggers.CreateLogger<CollectionService>());
        var links = new PeerLinks(parts.Identity, Catalog, parts.Peers, time);
        _records = new PeerRecordSource(Catalog, links);
        var copies = new CopyParts
        {
            Identity = parts.Identity, Repository = parts.Repository, Store = parts.Store, Locks = locks, Keyholder = _keyholder, Catalog = Catalog, Places = parts.CopyPlaces,
            Clock = _clock, Jobs = Jobs, Scrub = parts.Scrub, Elsewhere = [.. parts.RecordSources, _records], Entropy = entropy, Time = time,
        };
        _copies = new CopyService(copies, loggers.CreateLogger<CopyService>());
        var copyOutlook = new CopyOutlook(copies, _copies);
        CopyStores = new CopyStoreEndpoint(Catalog, _copies, copyOutlook, time);
        CopyPolicies = new CopyPolicyEndpoint(Catalog, references, _copies, copyOutlook, time);
        _scrubs = new ScrubService(
            new ScrubParts
            {
                Repository = parts.Repository, Store = parts.Store, Keyholder = _keyholder, Catalog = Catalog, Jobs = Jobs, Settings = parts.Scrub, Sources = [_copies.Records, .. parts.RecordSources, _records],
                Time = time, Ledger = new DamageLedger(parts.Repository, Catalog, time, loggers.CreateLogger<DamageLedger>()),
            },
            loggers.CreateLogger<ScrubService>());
        var damages = new DamageOutlook(parts.Repository, Catalog, parts.Scrub, time);
        var outlook = new RetentionOutlook(gathering, locks, Catalog, _clock);
        var starter = new JobStarter(references, Catalog, Jobs, _verifications, _retention, _collections, _scrubs, entropy, time);
        var errands = new AgentErrands(Jobs, Connections, entropy, time);
        _recoveries = new RecoveryService(Catalog, Jobs, errands, entropy, time, loggers.CreateLogger<RecoveryService>());
        var groupPoints = new GroupPoints(Catalog, Jobs);
        Recovery = new RecoveryEndpoint(Catalog, references, Jobs, _recoveries, groupPoints, entropy, time);
        Admin = new AdminEndpoint(
            parts.Identity, parts.Repository, parts.Store, Catalog, references, starter, Jobs, tokens, Enrollment, Connections, _custody, outlook, damages,
            new CollectionOutlook(parts.Repository, _collections), _enforcement, _signals, alerts, _clock, time);
        _migrationPlanner = new MigrationPlanner(Catalog, Jobs, errands, Connections, loggers.CreateLogger<MigrationPlanner>());
        _migrations = new MigrationRunner(new MigrationParts(Catalog, Jobs, errands, _migrationPlanner, _owners, time), loggers.CreateLogger<MigrationRunner>());
        Migrations = new MigrationEndpoint(Catalog, references, Jobs, Connections, _migrations, _migrationPlanner, entropy, time);
        Retention = new RetentionEndpoint(Catalog, references, starter, _custody, gathering, locks, outlook, _clock);
        _groups = new GroupBackups(Catalog, Jobs, Connections, groupPoints, parts.GroupCut, entropy, time, loggers.CreateLogger<GroupBackups>());
        Groups = new GroupEndpoint(Catalog, references, Jobs, _groups, groupPoints, entropy, time);
        var replication = new ReplicationParts
        {
            Repository = parts.Repository, Store = parts.Store, Catalog = Catalog, Describer = _describer, Locks = locks, Enforcement = _enforcement, Clock = _clock, Jobs = Jobs, Links = links, Entropy = entropy, Time = time,
            StoreKind = KnownPlaces.KindOf(parts.Identity.RepositoryLocation),
        };
        _replications = new ReplicationService(replication, loggers.CreateLogger<ReplicationService>());
        _replicationSchedule = new ReplicationSchedule(replication, _replications, loggers.CreateLogger<ReplicationSchedule>());
        _unlocking = new OriginUnlocking(parts.Repository, parts.Store, _keyholder, parts.OriginKeys, Catalog, _describer, loggers.CreateLogger<OriginUnlocking>());
        Replication = new ReplicationEndpoint(
            new PeerAccess(Catalog, parts.Repository), Peers, parts.Repository, parts.Store, Catalog, _describer, parts.Identity, links, time, loggers.CreateLogger<ReplicationEndpoint>());
        PeerAdmin = new PeerEndpoint(Catalog, references, Peers, links, _unlocking, _keyholder, time);
        Rules = new RuleEndpoint(Catalog, _replications, time);
        _custody.Changed = _copies.Wake;
        Jobs.Cuts = _groups;
        Connections.Closed = _groups.NoteDisconnected;
        _sessions.Ended = session => _signals.NoteEndedAsync(session.Expectation, session.IsCommitted, session.Ingest.ChunkBytes);
        Jobs.AttemptEnded = Store.EndJobAsync;
        Jobs.OwnJobCancelled = job =>
        {
            _verifications.Cancel(job);
            _retention.Cancel(job);
            _collections.Cancel(job);
            _scrubs.Cancel(job);
            _recoveries.Cancel(job);
            _migrations.Cancel(job);
            _migrationPlanner.Cancel(job);
            _groups.Cancel(job);
            _replications.Cancel(job);
            _copies.Cancel(job);
        };
        Jobs.LastWords = traffic.End;
        Jobs.PointsOfRuns = () => _recoveries.PointsInUse;
        Enrollment.AgentRevoked = _sessions.EndAgentAsync;
        Peers.PeerRevoked = Replication.EndPeer;
    }

    public CatalogDatabase Catalog { get; }

    public AgentConnections Connections { get; }

    /// <summary>Keys that are no longer accepted.</summary>
    public MemoryRevocationList Revoked { get; }

    /// <summary>Judges callers' certificates.</summary>
    public ChainPolicy Chain { get; }

    public JobService Jobs { get; }

    public AgentEndpoint Agents { get; }

    public StoreEndpoint Store { get; }

    public EnrollmentService Enrollment { get; }

    /// <summary>Admits other controllers.</summary>
    public PeerEnrollment Peers { get; }

    public AdminEndpoint Admin { get; }

    public RetentionEndpoint Retention { get; }

    public RecoveryEndpoint Recovery { get; }

    public MigrationEndpoint Migrations { get; }

    public GroupEndpoint Groups { get; }

    /// <summary>What operators ask of peers.</summary>
    public PeerEndpoint PeerAdmin { get; }

    /// <summary>What operators ask of replication.</summary>
    public RuleEndpoint Rules { get; }

    /// <summary>What operators ask of copy stores.</summary>
    public CopyStoreEndpoint CopyStores { get; }

    /// <summary>What operators ask of policies for copies.</summary>
    public CopyPolicyEndpoint CopyPolicies { get; }

    /// <summary>What other controllers ask.</summary>
    public ReplicationEndpoint Replication { get; }

    /// <summary>Holds, locks, forgets and recalls recovery points; parts of the system place their holds here.</summary>
    public PointCustody Custody => _custody;

    /// <summary>By which whatever deletes judges.</summary>
    public ITrustedClock Clock => _clock;

    /// <summary>Brings memory and catalog up to what is stored. Before the first call.</summary>
    public async ValueTask StartAsync(CancellationToken cancellationToken)
    {
        var head = _parts.Repository.Head;
        if (!head.RestoreKey.AsSpan().SequenceEqual(_keyholder.RestorePublicKey.Span))
        {
            throw new FaultException(
                FaultReason.FailedPrecondition, $"The escrowed keys are not those of repository {head.Uuid}: restore the file from this repository's recovery kit.");
        }
        await Enrollment.LoadAsync(cancellationToken);
        _unlocking.Load();
        var outcome = await new RecoveryPointProjection(Catalog.Points).RunAsync(
            await _describer.ListAsync(cancellationToken), DescribeOrSkipAsync, cancellationToken);
        if (outcome != default)
        {
            LogProjected(outcome.Added, outcome.Removed, outcome.Changed);
        }
        var newest = await Catalog.Points.ListAsync(null, includeForgotten: true, after: null, 1, cancellationToken);
        await _clock.StartAsync(newest.FirstOrDefault()?.CreatedMs, cancellationToken);
        _parts.Repository.RaiseTime((await _clock.ReadAsync(cancellationToken)).NowMs);
        await Jobs.LoadAsync(cancellationToken);
        await _recoveries.LoadAsync(cancellationToken);
        await _migrations.LoadAsync(cancellationToken);
        await _groups.SettleAsync(cancellationToken);
        await _signals.SettleAsync(cancellationToken);
    }

    /// <summary>Works beside the calls until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Task[] loops =
        [
            Store.RunAsync(scope.Token), _verifications.RunAsync(scope.Token), _clock.RunAsync(scope.Token), _retention.RunJobsAsync(scope.Token),
            _retention.RunHourlyAsync(scope.Token), _collections.RunJobsAsync(scope.Token), _collections.RunRegularlyAsync(scope.Token),
            _scrubs.RunJobsAsync(scope.Token), _scrubs.RunRegularlyAsync(scope.Token), _migrations.RunAsync(scope.Token), _migrationPlanner.RunJobsAsync(scope.Token), _groups.RunJobsAsync(scope.Token), _recoveries.RunAsync(scope.Token),
            _enforcement.RunAsync(scope.Token),
            _replications.RunJobsAsync(scope.Token), _replicationSchedule.RunAsync(scope.Token), Replication.RunAsync(scope.Token), _copies.RunAsync(scope.Token),
        ];
        try
        {
            await await Task.WhenAny(loops);
        }
        finally
        {
            // A loop that fails takes the others and the process with it: half a controller is none.
            await scope.CancelAsync();
            await Task.WhenAll(loops).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _sessions.DisposeAsync();
        _verifications.Dispose();
        _retention.Dispose();
        _collections.Dispose();
        _scrubs.Dispose();
        _recoveries.Dispose();
        _migrations.Dispose();
        _migrationPlanner.Dispose();
        _owners.Dispose();
        _groups.Dispose();
        _replications.Dispose();
        _copies.Dispose();
        Replication.Dispose();
        await _records.DisposeAsync();
        _retentionRun.Dispose();
        _custody.Dispose();
        _enforcement.Dispose();
        _clock.Dispose();
        Jobs.Dispose();
        _keyholder.Dispose();
    }

    /// <summary>A point that cannot be described is left out and told; one damaged manifest must not keep a controller from starting.</summary>
    private async ValueTask<PointRow?> DescribeOrSkipAsync(Id16 point, CancellationToken cancellationToken)
    {
        try
        {
            return await _describer.DescribeAsync(point, cancellationToken);
        }
        catch (FaultException damaged)
        {
            LogNotDescribed(point, damaged.Message);
            return null;
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "The catalog follows the repository: {Added} recovery points added, {Removed} removed, {Changed} changed.")]
    private partial void LogProjected(int added, int removed, int changed);

    [LoggerMessage(Level = LogLevel.Error, Message = "Recovery point {Point} cannot be listed: {Reason}")]
    private partial void LogNotDescribed(Id16 point, string reason);
}

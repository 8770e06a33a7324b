using VirtBackup.Catalog.Migrations;
using VirtBackup.Catalog.Replication;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>The catalog's table groups over one database, which stays its owner's to dispose.</summary>
public sealed class CatalogDatabase
{
    /// <param name="database">Opened with <see cref="CatalogSchema.Migrations"/>.</param>
    public CatalogDatabase(IDatabase database)
    {
        ArgumentNullException.ThrowIfNull(database);
        Agents = new AgentRecords(database);
        Tokens = new TokenRecords(database);
        Machines = new MachineRecords(database);
        Jobs = new JobRecords(database);
        Points = new PointRecords(database);
        Checks = new CheckRecords(database);
        RuleSets = new RuleSetRecords(database);
        Holds = new HoldRecords(database);
        Time = new TrustedTimeRecords(database);
        Damages = new DamageRecords(database);
        Runs = new RunRecords(database);
        Audits = new AuditRecords(database);
        Estimates = new EstimateRecords(database);
        Dependencies = new DependencyRecords(database);
        Recoveries = new RecoveryRecords(database);
        Migrations = new MigrationRecords(database);
        Groups = new GroupRecords(database);
        GroupRuns = new GroupRunRecords(database);
        Peers = new PeerRecords(database);
        Replication = new ReplicationRecords(database);
    }

    public AgentRecords Agents { get; }

    public TokenRecords Tokens { get; }

    public MachineRecords Machines { get; }

    public JobRecords Jobs { get; }

    public PointRecords Points { get; }

    public CheckRecords Checks { get; }

    public RuleSetRecords RuleSets { get; }

    public HoldRecords Holds { get; }

    public TrustedTimeRecords Time { get; }

    public DamageRecords Damages { get; }

    public RunRecords Runs { get; }

    public AuditRecords Audits { get; }

    public EstimateRecords Estimates { get; }

    public DependencyRecords Dependencies { get; }

    public RecoveryRecords Recoveries { get; }

    public MigrationRecords Migrations { get; }

    public GroupRecords Groups { get; }

    public GroupRunRecords GroupRuns { get; }

    public PeerRecords Peers { get; }

    public ReplicationRecords Replication { get; }
}

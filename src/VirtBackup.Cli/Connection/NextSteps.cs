namespace VirtBackup.Cli.Connection;

/// <summary>Steps that failures propose.</summary>
internal static class NextSteps
{
    public const string ListMachines = "virtbackup vm list";
    public const string ListAgents = "virtbackup agent list";
    public const string ListPoints = "virtbackup recovery-point list";
    public const string ListJobs = "virtbackup job list";
    public const string ListGroups = "virtbackup group list";
    public const string ListRuleSets = "virtbackup retention list";
    public const string ListPeers = "virtbackup peer list";
    public const string ListReplicationRules = "virtbackup replication rule list";
    public const string ShowDependencies = "virtbackup dependency show";
}

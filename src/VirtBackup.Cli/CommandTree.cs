using System.CommandLine;
using VirtBackup.Cli.Commands;

namespace VirtBackup.Cli;

/// <summary>All nouns and verbs.</summary>
internal static class CommandTree
{
    private const string Description = """
        VirtBackup: back up running virtual machines, prove the backups, bring the machines back.

        Exit codes: 0 done; 1 failed; 2 wrong usage; 3 controller not reached; 4 refused; 5 not found; 6 damaged data; 7 done in part; 130 interrupted.
        """;

    public static RootCommand Create(CliContext context)
    {
        var root = new RootCommand(Description);
        root.Add(GlobalOptions.Output);
        root.Add(GlobalOptions.Credentials);
        root.Add(Noun("controller", "The service that keeps the repository and assigns the work",
            new Commands.Controllers.InitCommand(context), new Commands.Controllers.RunCommand(context), new Commands.Controllers.StatusCommand(context),
            new Commands.Controllers.CredentialsCommand(context), new Commands.Controllers.ConfirmTimeCommand(context)));
        root.Add(Noun("agent", "The service on each hypervisor host",
            new Commands.Agents.TokenCommand(context), new Commands.Agents.EnrollCommand(context), new Commands.Agents.RevokeCommand(context),
            new Commands.Agents.RunCommand(context), new Commands.Agents.ListCommand(context)));
        root.Add(Noun("vm", "Virtual machines that agents report", new Commands.Machines.ListCommand(context), new Commands.Machines.ShowCommand(context), new Commands.Machines.AcceptCommand(context)));
        root.Add(Noun("backup", "Take recovery points",
            new Commands.Backups.RunCommand(context), new Commands.Backups.PlanCommand(context),
            new Commands.Jobs.ListCommand(context, "List backups that were started, newest first", "backup"), new Commands.Jobs.ShowCommand(context, "Show one backup and its outcome")));
        root.Add(Noun("group", "Virtual machines that are cut at one instant, also on several hosts",
            new Commands.Groups.CreateCommand(context), new Commands.Groups.ListCommand(context), new Commands.Groups.ShowCommand(context), new Commands.Groups.ShowPointCommand(context),
            new Commands.Groups.ChangeCommand(context, adds: true), new Commands.Groups.ChangeCommand(context, adds: false), new Commands.Groups.DeleteCommand(context),
            new Commands.Groups.BackupCommand(context)));
        root.Add(Noun("job", "Work that was started",
            new Commands.Jobs.ListCommand(context, "List jobs, newest first"), new Commands.Jobs.ShowCommand(context, "Show one job and its outcome"), new Commands.Jobs.CancelCommand(context), new Commands.Jobs.LogCommand(context)));
        root.Add(Noun("recovery-point", "What was backed up",
            new Commands.RecoveryPoints.ListCommand(context), new Commands.RecoveryPoints.ShowCommand(context, "Show one recovery point and what it holds"),
            new Commands.RecoveryPoints.VerifyCommand(context), new Commands.RecoveryPoints.ForgetCommand(context), new Commands.RecoveryPoints.HoldCommand(context),
            new Commands.RecoveryPoints.ReleaseCommand(context), new Commands.RecoveryPoints.LockCommand(context)));
        root.Add(Noun("retention", "How long recovery points are kept: named rule sets, attached to machines",
            new Commands.Retention.ListCommand(context), new Commands.Retention.ShowCommand(context), new Commands.Retention.SetCommand(context),
            new Commands.Retention.DeleteCommand(context), new Commands.Retention.AttachCommand(context), new Commands.Retention.DetachCommand(context),
            new Commands.Retention.SimulateCommand(context), new Commands.Retention.ApplyCommand(context)));
        root.Add(Noun("restore", "Bring machines back", new Commands.Restores.RunCommand(context), new Commands.Restores.PlanCommand(context)));
        root.Add(Noun("dependency", "Which virtual machines need which others, and how each tells that it is ready",
            new Commands.Dependencies.ChangeCommand(context, adds: true), new Commands.Dependencies.ChangeCommand(context, adds: false), new Commands.Dependencies.ListCommand(context),
            new Commands.Dependencies.ShowCommand(context), new Commands.Dependencies.ProbeCommand(context)));
        root.Add(Noun("recovery", "Bring several machines back, each when what it needs is ready",
            new Commands.Recoveries.RunCommand(context, isPlan: false), new Commands.Recoveries.RunCommand(context, isPlan: true), new Commands.Recoveries.ListCommand(context)));
        root.Add(Noun("migrate", "Move machines to other hosts, and their disks to other storages",
            new Commands.Migrations.RunCommand(context), new Commands.Migrations.PlanCommand(context), new Commands.Migrations.ListCommand(context),
            new Commands.Migrations.ShowCommand(context), new Commands.Jobs.CancelCommand(context), new Commands.Migrations.RemoveSourceCommand(context)));
        root.Add(Noun("peer", "Controllers of other sites, which this one replicates with",
            new Commands.Peers.TokenCommand(context), new Commands.Peers.AddCommand(context), new Commands.Peers.ListCommand(context), new Commands.Peers.ShowCommand(context),
            new Commands.Peers.AllowCommand(context), new Commands.Peers.OfferCommand(context), new Commands.Peers.UnlockCommand(context),
            new Commands.Peers.RevokeCommand(context), new Commands.Peers.RemoveCommand(context)));
        root.Add(Noun("replication", "Copies of other sites' recovery points, pulled to here",
            new Commands.Replications.RunCommand(context), new Commands.Replications.StatusCommand(context),
            Noun("rule", "What is pulled from a peer, when and how fast, and how long it is kept here",
                new Commands.Replications.SetRuleCommand(context), new Commands.Replications.ListRulesCommand(context), new Commands.Replications.RemoveRuleCommand(context))));
        root.Add(Noun("repository", "The store of all recovery points",
            new Commands.Repositories.InitCommand(context), new Commands.Repositories.StatusCommand(context), new Commands.Repositories.VerifyCommand(context),
            new Commands.Repositories.GarbageCollectCommand(context), new Commands.Repositories.ScrubCommand(context),
            Noun("damage", "What was found damaged, and what became of it", new Commands.Repositories.DamageListCommand(context)),
            new Commands.Repositories.ExtractCommand(context), new Commands.Repositories.RebuildIndexCommand(context)));
        root.Add(new Commands.AnalyzeCommand(context));
        root.Add(new Commands.CompletionCommand(context));
        root.Add(new Commands.CompleteCommand(context));
        new Completion.DynamicValues(context).AttachTo(root);
        return root;
    }

    private static Command Noun(string name, string description, params Command[] verbs)
    {
        var noun = new Command(name, description);
        foreach (var verb in verbs)
        {
            noun.Add(verb);
        }
        return noun;
    }
}

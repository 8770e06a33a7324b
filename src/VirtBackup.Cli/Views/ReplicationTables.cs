using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Replication for people.</summary>
internal static class ReplicationTables
{
    /// <summary>Received points shown after a run; JSON has them all.</summary>
    private const int PointsShown = 20;

    public static void WriteRules(IAnsiConsole console, IReadOnlyList<ReplicationRuleView> rules)
    {
        if (rules.Count == 0)
        {
            console.WriteLine("Nothing is pulled from other sites by itself. Make a rule: virtbackup replication rule set PEER --continuous");
            return;
        }
        var table = new ColumnTable("PEER", "MACHINES", "WHEN", ">STREAMS", "RATE", "?RULE SET", "?LOCKED FOR");
        foreach (var rule in rules)
        {
            table.AddRow(
                TextLayout.Cell(rule.Peer), TextLayout.Cell(rule.What), TextLayout.Cell(rule.When, rule.Paused ? TextLayout.Doubtful : default(Style?)),
                TextLayout.Cell(Units.Count(rule.Streams)), TextLayout.Cell(rule.Rate), TextLayout.Cell(rule.RuleSet ?? "-"), TextLayout.Cell(LockOf(rule)));
        }
        table.Write(console);
    }

    public static void WriteRule(IAnsiConsole console, ReplicationRuleView rule) => TextLayout.Facts(
        console,
        ("Peer", TextLayout.Cell(rule.Peer)),
        ("Machines", TextLayout.Cell(rule.What)),
        ("When", TextLayout.Cell(rule.When)),
        ("Streams", TextLayout.Cell(Units.Count(rule.Streams))),
        ("Rate", TextLayout.Cell(rule.Rate)),
        ("Rule set here", TextLayout.Cell(rule.RuleSet ?? "as any machine here")),
        ("Locked here for", TextLayout.Cell(LockOf(rule))));

    public static void WriteStatus(IAnsiConsole console, IReadOnlyList<ReplicationStatusView> rules)
    {
        if (rules.Count == 0)
        {
            WriteRules(console, []);
            return;
        }
        foreach (var (index, status) in rules.Index())
        {
            if (index > 0)
            {
                console.WriteLine();
            }
            WriteStatus(console, status);
        }
    }

    public static void WriteResult(IAnsiConsole console, ReplicationResultView result)
    {
        TextLayout.Title(console, "Result");
        TextLayout.Facts(
            console,
            ("Recovery points received", TextLayout.Cell(Units.Count(result.PointsReceived))),
            ("here already", TextLayout.Cell(Units.Count(result.PointsPresent))),
            ("not to be had", result.PointsRefused > 0 ? TextLayout.Cell(Units.Count(result.PointsRefused), TextLayout.Bad) : null),
            ("Received", TextLayout.Cell($"{Units.Bytes(result.BytesReceived)}: {Units.Count(result.ChunksReceived)} chunks, {Units.Count(result.NodesReceived)} map nodes")));
        if (result.Received.Count > 0)
        {
            console.WriteLine();
            var table = new ColumnTable("POINT", "VM", "?CREATED", ">RECEIVED");
            foreach (var point in result.Received.Take(PointsShown))
            {
                table.AddRow(
                    TextLayout.Cell(Units.ShortId(point.PointId)), TextLayout.Cell(point.Vm), TextLayout.Cell(Units.Time(point.CreateTime)), TextLayout.Cell(Units.Bytes(point.BytesReceived)));
            }
            table.Write(console);
            if (result.PointsReceived > (ulong)Math.Min(PointsShown, result.Received.Count))
            {
                console.WriteLine($"and {Units.Count(result.PointsReceived - (ulong)Math.Min(PointsShown, result.Received.Count))} more");
            }
        }
        if (result.Problems.Count > 0)
        {
            TextLayout.Title(console, "Not to be had");
            foreach (var problem in result.Problems)
            {
                console.Write(TextLayout.Cell(problem, TextLayout.Bad));
                console.WriteLine();
            }
        }
    }

    private static void WriteStatus(IAnsiConsole console, ReplicationStatusView status)
    {
        TextLayout.Facts(
            console,
            ("From", TextLayout.Cell($"{status.Rule.Peer}: {status.Rule.What}")),
            ("When", TextLayout.Cell(status.Rule.When)),
            ("Now", TextLayout.Cell(NowOf(status), status.Problem is null ? default(Style?) : TextLayout.Bad)),
            ("Complete last", TextLayout.Cell(status.LastSuccessTime is { } time ? Units.Time(time) : "never yet")),
            ("Next run", status.NextTime is { } next && !status.Running ? TextLayout.Cell(Units.Time(next)) : null),
            ("Newest job", TextLayout.Optional(status.JobId is { } job ? Units.ShortId(job) : null)));
        if (status.Machines.Count == 0)
        {
            console.WriteLine("The peer has listed no recovery points yet that this site may read.");
            return;
        }
        console.WriteLine();
        var table = new ColumnTable("VM", ">BEHIND BY", ">MISSING", "NEWEST THERE", "NEWEST HERE", "?ASKED", "?ID");
        foreach (var machine in status.Machines)
        {
            table.AddRow(
                TextLayout.Cell(machine.Vm), LagOf(machine), TextLayout.Cell(Units.Count(machine.PointsMissing)), TextLayout.Cell(Units.Time(machine.NewestSourceTime)),
                TextLayout.Cell(Units.Time(machine.NewestHereTime)), TextLayout.Cell(Units.Time(machine.ListTime)), TextLayout.Cell(Units.ShortId(machine.VmId)));
        }
        table.Write(console);
        if (status.MachinesTotal > (uint)status.Machines.Count)
        {
            console.WriteLine($"and {Units.Count(status.MachinesTotal - (ulong)status.Machines.Count)} more machines");
        }
    }

    /// <summary>The age of the newest point that is not here: what a loss of the other site would cost now, beyond what it has not backed up.</summary>
    private static Text LagOf(ReplicatedMachineView machine) => machine.LagSeconds is { } lag
        ? TextLayout.Cell(Units.Duration(TimeSpan.FromSeconds(lag)), TextLayout.Doubtful) : TextLayout.Cell("nothing", TextLayout.Good);

    private static string NowOf(ReplicationStatusView status) => status switch
    {
        { Running: true, BytesPerSecond: > 0 } => $"pulling, {Units.Rate(status.BytesPerSecond)}",
        { Running: true } => "pulling",
        { Problem: { } problem } => problem,
        { Rule.Paused: true } => "paused",
        { Rule.Continuous: true } => "waiting for news",
        _ => "waiting for its time",
    };

    private static string LockOf(ReplicationRuleView rule) => rule.LockDays > 0 ? $"{Units.Count(rule.LockDays)} days" : "-";
}

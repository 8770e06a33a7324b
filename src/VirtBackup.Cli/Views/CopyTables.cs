using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Copy stores, and what policies want, for people.</summary>
internal static class CopyTables
{
    public static void WriteStores(IAnsiConsole console, IReadOnlyList<CopyStoreView> stores)
    {
        if (stores.Count == 0)
        {
            console.WriteLine("The repository has no second place. Add one: virtbackup store add NAME --location PLACE");
            return;
        }
        var table = new ColumnTable("STORE", "KIND", ">POINTS", ">MISSING", "?>SIZE", "NOW", "?COMPLETE LAST", "?LOCATION");
        foreach (var store in stores)
        {
            table.AddRow(
                TextLayout.Cell(store.Name), TextLayout.Cell(store.OffSite ? $"{store.Kind}, off-site" : store.Kind), TextLayout.Cell(Units.Count(store.Points)),
                TextLayout.Cell(Units.Count(store.PointsMissing), store.PointsMissing > 0 ? TextLayout.Doubtful : default(Style?)),
                TextLayout.Cell(store.PackBytes is { } bytes ? Units.Bytes(bytes) : "-"), NowOf(store, isShort: true), TextLayout.Cell(Units.Time(store.CompleteTime)), TextLayout.Cell(store.Location));
        }
        table.Write(console);
    }

    public static void WriteStore(IAnsiConsole console, CopyStoreView store) => TextLayout.Facts(
        console,
        ("Store", TextLayout.Cell(store.Name)),
        ("Location", TextLayout.Cell(store.Location)),
        ("Kind", TextLayout.Cell(store.OffSite ? $"{store.Kind}, off-site" : store.Kind)),
        ("Now", NowOf(store, isShort: false)),
        ("Complete last", TextLayout.Cell(store.CompleteTime is null ? "never yet" : Units.Time(store.CompleteTime))),
        ("Recovery points", TextLayout.Cell(Units.Count(store.Points))),
        ("missing there", store.PointsMissing > 0 ? TextLayout.Cell(Units.Count(store.PointsMissing), TextLayout.Doubtful) : null),
        ("kept longer there", store.PointsKept > 0 ? TextLayout.Cell(Units.Count(store.PointsKept)) : null),
        ("only there", store.PointsOnlyThere > 0 ? TextLayout.Cell($"{Units.Count(store.PointsOnlyThere)}: the repository has not got them, and nobody forgot them", TextLayout.Doubtful) : null),
        ("Size", store.PackBytes is { } bytes ? TextLayout.Cell(Units.Bytes(bytes)) : null),
        ("Damaged packs", store.DamagesOpen > 0 ? TextLayout.Cell(Units.Count(store.DamagesOpen), TextLayout.Bad) : null),
        ("Rate limit", store.BytesPerSecondMax is { } rate ? TextLayout.Cell(Units.Rate(rate)) : null),
        ("Newest job", TextLayout.Optional(store.JobId is { } job ? Units.ShortId(job) : null)));

    public static void WritePolicies(IAnsiConsole console, IReadOnlyList<CopyPolicyView> policies)
    {
        if (policies.Count == 0)
        {
            console.WriteLine("There is no policy for copies. Make one: virtbackup copies set NAME --machines all --copies 3 --media 2 --offsite 1");
            return;
        }
        var table = new ColumnTable("POLICY", "MACHINES", ">COPIES", ">MEDIA", ">OFF-SITE", "AT", "?LOCKED", "?WITHIN", "?RULE SET");
        foreach (var policy in policies)
        {
            table.AddRow(
                TextLayout.Cell(policy.Name), TextLayout.Cell(policy.What), TextLayout.Cell(Units.Count(policy.Copies)), TextLayout.Cell(Units.Count(policy.Media)),
                TextLayout.Cell(Units.Count(policy.OffSite)), TextLayout.Cell(policy.Where), TextLayout.Cell(policy.Locked), TextLayout.Cell(policy.Within), TextLayout.Cell(policy.RuleSet ?? "-"));
        }
        table.Write(console);
    }

    public static void WritePolicy(IAnsiConsole console, CopyPolicyView policy) => TextLayout.Facts(
        console,
        ("Policy", TextLayout.Cell(policy.Name)),
        ("Machines", TextLayout.Cell(policy.What)),
        ("Copies", TextLayout.Cell($"{policy.Copies}, the repository among them")),
        ("Kinds of storage", policy.Media > 0 ? TextLayout.Cell(Units.Count(policy.Media)) : null),
        ("Off-site", policy.OffSite > 0 ? TextLayout.Cell(Units.Count(policy.OffSite)) : null),
        ("At", TextLayout.Cell(policy.Where)),
        ("Locked for", policy.LockDays > 0 ? TextLayout.Cell(policy.Locked) : null),
        ("Within", TextLayout.Cell(policy.Within)),
        ("Kept there by", TextLayout.Cell(policy.RuleSet ?? "as long as in the repository")));

    public static void WriteStatus(IAnsiConsole console, IReadOnlyList<CopyStatusView> machines, uint total)
    {
        if (machines.Count == 0)
        {
            console.WriteLine("No policy is about any recovery point. Make one: virtbackup copies set NAME --machines all");
            return;
        }
        var table = new ColumnTable("VM", "STATE", "NEWEST POINT", ">COPIES", ">MEDIA", ">OFF-SITE", "?LOCKED UNTIL", "?SINCE", "?POLICY");
        foreach (var machine in machines)
        {
            table.AddRow(
                TextLayout.Cell(machine.Vm), StateOf(machine), TextLayout.Cell(machine.PointId is null ? "none" : Units.Time(machine.PointTime)), Of(machine.Copies, machine.CopiesWanted),
                Of(machine.Media, machine.MediaWanted), Of(machine.OffSite, machine.OffSiteWanted),
                TextLayout.Cell(machine.LockWanted || machine.LockedUntilTime is not null ? Units.Time(machine.LockedUntilTime) : ""), TextLayout.Cell(machine.SinceTime is null ? "" : Units.Time(machine.SinceTime)),
                TextLayout.Cell(machine.Policy));
        }
        table.Write(console);
        if (total > machines.Count)
        {
            console.WriteLine($"and {Units.Count(total - (ulong)machines.Count)} more");
        }
        foreach (var (index, machine) in machines.Where(static machine => machine.Reasons.Count > 0).Index())
        {
            if (index == 0)
            {
                TextLayout.Title(console, "What is not so");
            }
            console.Write(TextLayout.Cell($"{machine.Vm} ({machine.Policy}): {string.Join("; ", machine.Reasons)}", machine.IsOverdue ? TextLayout.Bad : TextLayout.Doubtful));
            console.WriteLine();
        }
    }

    public static void WriteResult(IAnsiConsole console, CopyResultView result)
    {
        TextLayout.Title(console, "Result");
        TextLayout.Facts(
            console,
            ("Recovery points copied", TextLayout.Cell(Units.Count(result.PointsCopied))),
            ("locked", result.PointsLocked > 0 ? TextLayout.Cell(Units.Count(result.PointsLocked)) : null),
            ("forgotten there", result.PointsForgotten > 0 ? TextLayout.Cell(Units.Count(result.PointsForgotten)) : null),
            ("not to be copied", result.PointsRefused > 0 ? TextLayout.Cell(Units.Count(result.PointsRefused), TextLayout.Bad) : null),
            ("Copied", TextLayout.Cell(Units.Bytes(result.BytesCopied))));
        foreach (var problem in result.Problems)
        {
            console.Write(TextLayout.Cell(problem, TextLayout.Bad));
            console.WriteLine();
        }
    }

    private static Text Of(uint count, uint wanted) =>
        TextLayout.Cell(wanted == 0 ? Units.Count(count) : $"{Units.Count(count)}/{Units.Count(wanted)}", count < wanted ? TextLayout.Doubtful : default(Style?));

    private static Text StateOf(CopyStatusView machine) => machine switch
    {
        { IsMet: true } => TextLayout.Cell("as wanted", TextLayout.Good),
        { IsOverdue: true } => TextLayout.Cell($"overdue ({Units.Count(machine.PointsOverdue)} of {Units.Count(machine.Points)})", TextLayout.Bad),
        { Points: 0 } => TextLayout.Cell("no recovery point", TextLayout.Doubtful),
        _ => TextLayout.Cell($"not yet ({Units.Count(machine.PointsPending)} of {Units.Count(machine.Points)})", TextLayout.Doubtful),
    };

    private static Text NowOf(CopyStoreView store, bool isShort) => store switch
    {
        { Open: false } => TextLayout.Cell(isShort ? "not open" : $"not open: {store.Problem}", TextLayout.Bad),
        { DamagesOpen: > 0 } when isShort => TextLayout.Cell("damaged", TextLayout.Bad),
        { Running: true } => TextLayout.Cell("copying"),
        { Problem: { } problem } => TextLayout.Cell(isShort ? "failed" : problem, TextLayout.Bad),
        { PointsMissing: > 0 } => TextLayout.Cell("waiting", TextLayout.Doubtful),
        _ => TextLayout.Cell("complete", TextLayout.Good),
    };
}

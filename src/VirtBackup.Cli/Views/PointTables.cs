using Spectre.Console;
using VirtBackup.Cli.Output;
using VirtBackup.Repository.Scrubbing;

namespace VirtBackup.Cli.Views;

/// <summary>Recovery points for people.</summary>
internal static class PointTables
{
    public static void WriteList(IAnsiConsole console, IReadOnlyList<PointView> points)
    {
        if (points.Count == 0)
        {
            console.WriteLine("There are no recovery points.");
            return;
        }
        var stated = points.Any(static point => point.Forgotten || point.Damaged);
        var foreign = points.Any(static point => point.Origin is not null);
        var table = new ColumnTable(["POINT", "VM", ">SEQ", "?CREATED", "?CONSISTENCY", "?>SIZE", "?>READ", ">STORED", "?GOES", "?KEPT BY", "?RULE SET", .. foreign ? ["?FROM"] : Array.Empty<string>(), .. stated ? ["STATE"] : Array.Empty<string>()]);
        foreach (var point in points)
        {
            table.AddRow(
            [
                TextLayout.Cell(Units.ShortId(point.PointId)), TextLayout.Cell(point.Vm), TextLayout.Cell(Units.Count(point.Sequence)),
                TextLayout.Cell(Units.Time(point.CreateTime)), TextLayout.Cell(point.Consistency), TextLayout.Cell(Units.Bytes(point.LogicalBytes)),
                TextLayout.Cell(Units.Bytes(point.ReadBytes)), TextLayout.Cell(Units.Bytes(point.StoredBytes)),
                RetentionTables.ExpiryOf(point.Retention), TextLayout.Cell(RetentionTables.KeptByOf(point.Retention)), TextLayout.Cell(point.Retention?.RuleSet ?? "-"),
                .. foreign ? [OriginOf(point)] : Array.Empty<Text>(),
                .. stated ? [StateOf(point)] : Array.Empty<Text>(),
            ]);
        }
        table.Write(console);
    }

    public static void WriteOne(IAnsiConsole console, PointView point)
    {
        TextLayout.Facts(
            console,
            ("Recovery point", TextLayout.Cell(point.PointId)),
            ("VM", TextLayout.Cell($"{point.Vm} ({point.VmId})")),
            ("Name", TextLayout.Cell($"{point.Vm}@{point.Sequence}")),
            ("Created", TextLayout.Cell(Units.Time(point.CreateTime))),
            ("Came from", point.Origin is { } origin ? OriginOf(point, $"; made in repository {origin.RepositoryId}") : null),
            ("Sealed", point.Origin is { Sealed: true }
                ? TextLayout.Cell("there are no keys for it here. With the recovery kit of that site: virtbackup peer unlock --kit FILE", TextLayout.Doubtful) : null),
            ("State", point.Forgotten || point.Damaged ? StateOf(point) : null),
            ("Consistency", ResultTables.ConsistencyOf(point)),
            ("Frozen", ResultTables.FrozenOf(point)),
            ("Running state", ResultTables.RunningStateOf(point)),
            ("Size", TextLayout.Cell(Units.Bytes(point.LogicalBytes))),
            ("Read", TextLayout.Cell(Units.Bytes(point.ReadBytes))),
            ("Stored", TextLayout.Cell(Units.Bytes(point.StoredBytes))),
            ("Base", TextLayout.Optional(point.BasePointId)),
            ("Agent", TextLayout.Optional(point.Agent)),
            ("Hypervisor", TextLayout.Optional(point.HypervisorKind)));
        if (point.Retention is { } retention)
        {
            WriteRetention(console, retention);
        }
        ResultTables.WriteStreams(console, point);
        if (point.DamagedRanges.Count > 0)
        {
            TextLayout.Title(console, "Damaged");
            DamageTables.WriteRanges(console, point.DamagedRanges, cut: point.DamagedRanges.Count >= PointLoss.RunsMax);
            console.WriteLine("Everything else can be restored. The next backup of the machine reads in full and heals what its disks still hold.");
        }
    }

    private static Text OriginOf(PointView point, string more = "") =>
        point.Origin is { } origin ? TextLayout.Cell(origin.Text + more, origin.Sealed ? TextLayout.Doubtful : default(Style?)) : TextLayout.Cell("here");

    private static Text StateOf(PointView point) => (point.Damaged, point.Forgotten) switch
    {
        (true, true) => TextLayout.Cell("damaged, forgotten", TextLayout.Bad),
        (true, false) => TextLayout.Cell("damaged", TextLayout.Bad),
        (false, true) => TextLayout.Cell("forgotten", TextLayout.Faint),
        _ => TextLayout.Cell("kept"),
    };

    private static void WriteRetention(IAnsiConsole console, PointRetentionView retention)
    {
        TextLayout.Title(console, "Retention");
        TextLayout.Facts(
            console,
            ("Rule set", TextLayout.Cell(retention.RuleSet ?? "none: everything is kept")),
            ("Kept by", TextLayout.Cell(RetentionTables.KeptByOf(retention))),
            ("Goes", RetentionTables.ExpiryOf(retention)),
            ("Locked until", retention.LockTime is { } time ? TextLayout.Cell(Units.Time(time)) : null),
            ("Verified", TextLayout.Cell(retention.Verified ? "yes" : "no", retention.Verified ? TextLayout.Good : default(Style?))));
        if (retention.Holds.Count > 0)
        {
            console.WriteLine();
            var table = new ColumnTable("HOLD", "REASON", "PLACED BY", "?SINCE");
            foreach (var hold in retention.Holds)
            {
                table.AddRow(
                    TextLayout.Cell(Units.ShortId(hold.HoldId)), TextLayout.Cell(hold.Reason), TextLayout.Cell(hold.BySystem ? $"{hold.PlacedBy} (system)" : hold.PlacedBy),
                    TextLayout.Cell(Units.Time(hold.PlaceTime)));
            }
            table.Write(console);
        }
    }
}

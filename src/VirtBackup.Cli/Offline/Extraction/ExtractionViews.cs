using Spectre.Console;
using VirtBackup.Cli.Output;
using VirtBackup.Repository.Rebuilding;

namespace VirtBackup.Cli.Offline.Extraction;

internal sealed record ExtractablePointView(string? PointId, string? Vm, string? VmId, long Sequence, DateTimeOffset? CreateTime, long Bytes, bool Forgotten, IReadOnlyList<string> Disks, string? Problem);

/// <summary>What can be extracted from a repository.</summary>
internal sealed record ExtractionListView(IReadOnlyList<ExtractablePointView> RecoveryPoints, IReadOnlyList<string> DamagedPacks)
{
    public static ExtractionListView Of(IEnumerable<ExtractablePoint> points, IEnumerable<ObjectProblem> problems) => new(
        [.. points.Select(static point => new ExtractablePointView(
            point.Manifest?.Head.Point.ToString(), point.Body?.VmName, point.Manifest?.Head.Vm.ToString(), point.Manifest?.Head.Sequence ?? 0,
            point.Manifest is { } manifest ? DateTimeOffset.FromUnixTimeMilliseconds(manifest.Head.CreatedMs) : null,
            point.Manifest?.Head.Streams.Sum(static stream => stream.Geometry.StreamLength) ?? 0, point.IsForgotten,
            point.Body is { } body ? [.. body.Streams.Select(static stream => stream.Name)] : [], point.Problem))],
        [.. problems.Select(static problem => $"{problem.ObjectKey}: {problem.Problem}")]);

    public void Write(IAnsiConsole console)
    {
        var table = new ColumnTable("POINT", "VM", "BACKUP", "CREATED", "SIZE", "DISKS", "?NOTE");
        foreach (var point in RecoveryPoints)
        {
            table.AddRow(
                TextLayout.Cell(point.PointId ?? "?"), TextLayout.Cell(point.Vm ?? point.VmId ?? "?"), TextLayout.Cell(Units.Count((ulong)point.Sequence)),
                TextLayout.Cell(Units.Time(point.CreateTime)), TextLayout.Cell(Units.Bytes((ulong)point.Bytes)), TextLayout.Cell(string.Join(", ", point.Disks)),
                point.Problem is { } problem ? TextLayout.Cell(problem, TextLayout.Bad) : TextLayout.Cell(point.Forgotten ? "forgotten" : ""));
        }
        table.Write(console);
        foreach (var damaged in DamagedPacks)
        {
            console.Write(TextLayout.Cell(damaged, TextLayout.Bad));
            console.WriteLine();
        }
    }
}

internal sealed record ExtractedDiskView(string Path, long Bytes);

/// <summary>What was extracted.</summary>
internal sealed record ExtractionView(string PointId, string Vm, string Folder, IReadOnlyList<ExtractedDiskView> Disks)
{
    public static ExtractionView Of(ExtractablePoint point, string folder, IEnumerable<(string Path, long Bytes)> written) => new(
        point.Manifest!.Head.Point.ToString(), point.Body!.VmName, folder, [.. written.Select(static disk => new ExtractedDiskView(disk.Path, disk.Bytes))]);

    public void Write(IAnsiConsole console)
    {
        TextLayout.Facts(console, ("Recovery point", TextLayout.Cell(PointId)), ("VM", TextLayout.Cell(Vm)), ("Folder", TextLayout.Cell(Folder)));
        foreach (var disk in Disks)
        {
            console.Write(TextLayout.Cell($"{disk.Path}  {Units.Bytes((ulong)disk.Bytes)}"));
            console.WriteLine();
        }
        console.WriteLine("Every chunk was decrypted and proven by its name. machine.json and native-configuration describe the machine.");
    }
}

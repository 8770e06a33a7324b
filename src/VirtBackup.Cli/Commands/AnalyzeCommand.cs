using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Analysis;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Commands;

internal sealed class AnalyzeCommand : ProgramCommand
{
    private readonly Argument<string[]> _images = new("image") { Description = "Raw disk images; chunks that several of them have count once", Arity = ArgumentArity.OneOrMore };

    public AnalyzeCommand(CliContext context)
        : base("analyze", "Measure how disk images would deduplicate and compress, cut in several ways", context) => Add(_images);

    protected override async Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var report = ReportFor(parse);
        var images = new List<RawImage>();
        try
        {
            foreach (var path in parse.GetRequiredValue(_images))
            {
                images.Add(RawImage.Open(path));
            }
            using var line = new ProgressLine(report, Context.Time);
            var view = await new ImageAnalysis(Context.Time, Context.Entropy).RunAsync(
                images, (done, total) => line.Show(() => TextOf(done, total, line.Elapsed)), cancellationToken);
            line.Dispose();
            report.Write(view, Write);
        }
        finally
        {
            images.ForEach(static image => image.Dispose());
        }
        return ExitCode.Succeeded;
    }

    private static string TextOf(long done, long total, TimeSpan elapsed) =>
        $"analyzing: {Units.Percent((ulong)done, (ulong)total)} ({Units.Bytes((ulong)done)} of {Units.Bytes((ulong)total)}) · {Units.Rate(done / elapsed.TotalSeconds)}";

    private static void Write(IAnsiConsole console, AnalysisView view)
    {
        var table = new ColumnTable("CUT", "CHUNK SIZE", "?>LOGICAL", "?>ZERO", ">UNIQUE", ">STORED", "?>DEDUP", ">TOTAL", "?>CHUNKS", "?>CPU TIME");
        foreach (var size in view.ChunkSizes)
        {
            var about = size.Estimated ? "~" : "";
            table.AddRow(
                TextLayout.Cell(size.Chunker == "fixed" ? "fixed" : "content"), TextLayout.Cell(size.ChunkBytes < 1 << 20 ? $"{size.ChunkBytes >> 10} KiB" : $"{size.ChunkBytes >> 20} MiB"), TextLayout.Cell(Units.Bytes(size.LogicalBytes)), TextLayout.Cell(Units.Bytes(size.ZeroBytes)),
                TextLayout.Cell(about + Units.Bytes(size.UniqueBytes)), TextLayout.Cell(about + Units.Bytes(size.StoredBytes)), TextLayout.Cell(RatioOf(size.DedupRatio)),
                TextLayout.Cell(RatioOf(size.TotalRatio)), TextLayout.Cell(Units.Count(size.Chunks)), TextLayout.Cell(Units.Duration(TimeSpan.FromSeconds(size.CpuSeconds))));
        }
        table.Write(console);
        console.WriteLine();
        var images = view.Images.Count == 1 ? "one image" : $"{view.Images.Count} images together";
        console.WriteLine($"{images}, in {Units.Duration(TimeSpan.FromSeconds(view.Seconds))}. STORED: unique chunks after zstd level 1 and sealing, without the map. Backups use content-defined chunks of 128 KiB unless agent.yaml says otherwise (chunks: fixed-256K).");
        if (view.ChunkSizes.Any(static size => size.Estimated))
        {
            console.WriteLine("~ estimated from a sample of the chunks.");
        }
    }

    private static string RatioOf(double? ratio) => ratio is { } value ? string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{value:0.00}") : "-";
}

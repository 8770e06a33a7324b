using Spectre.Console;

namespace VirtBackup.Cli.Output;

/// <summary>
/// A table of things, one a line. Where the terminal is too narrow for all columns, those that can be missed are left out,
/// the last first: a line that wraps inside its cells cannot be read.
/// </summary>
/// <param name="headings">One that starts with '&gt;' is right-aligned, for numbers; one that starts with '?' can be missed ('?&gt;': both).</param>
internal sealed class ColumnTable(params string[] headings)
{
    private readonly List<Text[]> _rows = [];

    /// <param name="cells">As many as there are headings.</param>
    public void AddRow(params Text[] cells) => _rows.Add(cells);

    public void Write(IAnsiConsole console)
    {
        var shown = Enumerable.Range(0, headings.Length).ToList();
        while (WidthOf(shown) > console.Profile.Width && shown.FindLastIndex(column => headings[column].StartsWith('?')) is >= 0 and var missed)
        {
            shown.RemoveAt(missed);
        }
        var table = TextLayout.Columns([.. shown.Select(column => headings[column].TrimStart('?'))]);
        foreach (var row in _rows)
        {
            table.AddRow(shown.Select(column => row[column]));
        }
        console.Write(table);
    }

    private int WidthOf(List<int> columns) =>
        columns.Sum(column => Math.Max(headings[column].TrimStart('?', '>').Length, _rows.Max(row => row[column].Length)) + TextLayout.Gap) - TextLayout.Gap;
}

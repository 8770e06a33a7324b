using System.Text;
using Spectre.Console;

namespace VirtBackup.Cli.Output;

/// <summary>The two shapes that results have: a table of things, and one thing with labels.</summary>
internal static class TextLayout
{
    public static readonly Style Heading = new(decoration: Decoration.Bold);
    public static readonly Style Good = new(Color.Green);
    public static readonly Style Bad = new(Color.Red);
    public static readonly Style Doubtful = new(Color.Yellow);
    public static readonly Style Faint = new(decoration: Decoration.Dim);

    /// <summary>Blanks between columns.</summary>
    public const int Gap = 3;

    /// <summary>A table without lines; a heading that starts with '&gt;' is right-aligned, for numbers.</summary>
    public static Table Columns(params string[] headings)
    {
        var table = new Table { Border = TableBorder.None, ShowRowSeparators = false };
        foreach (var (index, heading) in headings.Index())
        {
            var right = heading.StartsWith('>');
            var column = new TableColumn(new Text(right ? heading[1..] : heading, Heading))
            {
                NoWrap = index == 0,
                Padding = new Padding(0, 0, index == headings.Length - 1 ? 0 : Gap, 0),
                Alignment = right ? Justify.Right : Justify.Left,
            };
            table.AddColumn(column);
        }
        return table;
    }

    /// <summary>Labels and values of one thing; null values are left out.</summary>
    public static void Facts(IAnsiConsole console, params (string Label, Text? Value)[] facts)
    {
        var grid = new Grid();
        grid.AddColumn(new GridColumn { NoWrap = true, Padding = new Padding(0, 0, Gap, 0) });
        grid.AddColumn(new GridColumn { Padding = new Padding(0, 0, 0, 0) });
        foreach (var (label, value) in facts)
        {
            if (value is not null)
            {
                grid.AddRow(new Text(label, Heading), value);
            }
        }
        console.Write(grid);
    }

    public static void Title(IAnsiConsole console, string text)
    {
        console.WriteLine();
        console.Write(new Text(text + "\n", Heading));
    }

    /// <summary>Text that came from elsewhere: control characters must not reach the terminal.</summary>
    public static Text Cell(string? text, Style? style = null) => new(Clean(text ?? ""), style);

    /// <summary>Null for empty text, so that <see cref="Facts"/> leaves it out.</summary>
    public static Text? Optional(string? text, Style? style = null) => string.IsNullOrEmpty(text) ? null : Cell(text, style);

    public static string Clean(string text)
    {
        if (!text.AsSpan().ContainsAnyInRange('\0', '\u001f') && !text.AsSpan().ContainsAnyInRange('\u007f', '\u009f'))
        {
            return text;
        }
        var clean = new StringBuilder(text.Length);
        foreach (var c in text)
        {
            clean.Append(char.IsControl(c) ? '?' : c);
        }
        return clean.ToString();
    }
}

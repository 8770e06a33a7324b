using Spectre.Console;

namespace VirtBackup.Cli.Output;

internal enum OutputFormat
{
    Table,
    Json,
}

/// <summary>Writes a command's result, and only that, to standard output.</summary>
internal sealed class Report(Terminal terminal, OutputFormat format)
{
    public bool IsJson => format == OutputFormat.Json;

    public Terminal Terminal => terminal;

    /// <summary>The view as JSON, or what <paramref name="asText"/> makes of it.</summary>
    public void Write<T>(T view, Action<IAnsiConsole, T> asText)
    {
        if (IsJson)
        {
            terminal.Writer.Write(Json.Write(view) + "\n");
            terminal.Writer.Flush();
        }
        else
        {
            asText(terminal.Out, view);
        }
    }

    /// <summary>A remark for people, on standard error; none when the result is JSON.</summary>
    public void Note(string text)
    {
        if (!IsJson)
        {
            terminal.ErrorWriter.WriteLine(text);
        }
    }
}

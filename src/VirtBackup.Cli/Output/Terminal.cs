using Spectre.Console;

namespace VirtBackup.Cli.Output;

/// <summary>
/// The standard streams: results go to <see cref="Out"/>, everything else to <see cref="Error"/>. Colours and live
/// displays only where the stream is a terminal; <c>NO_COLOR</c> turns colours off (no-color.org).
/// </summary>
internal sealed class Terminal
{
    /// <summary>Nothing is wrapped for readers that are programs.</summary>
    private const int UnlimitedWidth = 4096;

    private Terminal(TextReader input, TextWriter output, TextWriter error, bool outIsTerminal, bool errorIsTerminal, bool inputIsTerminal, bool colours)
    {
        Input = input;
        Writer = output;
        ErrorWriter = error;
        OutIsTerminal = outIsTerminal;
        ErrorIsTerminal = errorIsTerminal;
        InputIsTerminal = inputIsTerminal;
        Out = Create(output, outIsTerminal, colours);
        Error = Create(error, errorIsTerminal, colours);
    }

    public TextReader Input { get; }

    public TextWriter Writer { get; }

    public TextWriter ErrorWriter { get; }

    public IAnsiConsole Out { get; }

    public IAnsiConsole Error { get; }

    public bool OutIsTerminal { get; }

    public bool ErrorIsTerminal { get; }

    public bool InputIsTerminal { get; }

    public static Terminal OfProcess(Func<string, string?> variables)
    {
        var capable = variables("TERM") is not "dumb";
        return new Terminal(
            Console.In, Console.Out, Console.Error,
            capable && !Console.IsOutputRedirected, capable && !Console.IsErrorRedirected, !Console.IsInputRedirected,
            colours: string.IsNullOrEmpty(variables("NO_COLOR")));
    }

    /// <summary>Streams of which none is a terminal.</summary>
    public static Terminal OfStreams(TextReader input, TextWriter output, TextWriter error) =>
        new(input, output, error, outIsTerminal: false, errorIsTerminal: false, inputIsTerminal: false, colours: false);

    private static IAnsiConsole Create(TextWriter writer, bool isTerminal, bool colours)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = isTerminal ? AnsiSupport.Detect : AnsiSupport.No,
            ColorSystem = isTerminal && colours ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
            Interactive = isTerminal ? InteractionSupport.Detect : InteractionSupport.No,
            Out = new AnsiConsoleOutput(isTerminal ? writer : new TrimmedWriter(writer)),
        });
        if (!isTerminal)
        {
            console.Profile.Width = UnlimitedWidth;
        }
        return console;
    }
}

using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Commands;
using VirtBackup.Cli.Output;
using VirtBackup.Core;

namespace VirtBackup.Cli;

/// <summary>Tells a failure on standard error, in the form that was asked for, and makes it the process's exit code.</summary>
internal sealed class FailureReport(CliContext context, OutputFormat format)
{
    private readonly Terminal _terminal = context.Terminal;

    /// <summary>The form that a command line asks for, also one that is wrong elsewhere.</summary>
    public static OutputFormat FormatOf(ParseResult parse)
    {
        try
        {
            return parse.GetValue(GlobalOptions.Output);
        }
        catch (InvalidOperationException)
        {
            // It is this option that is wrong.
            return OutputFormat.Table;
        }
    }

    /// <returns>The exit code.</returns>
    public int Write(Exception failure) => failure switch
    {
        CommandFault fault => Write(fault.ExitCode, ReasonOf(fault), fault.Message, fault.Next, fault),
        FaultException fault => Write(ExitCode.Of(fault.Reason), NameOf(fault.Reason), fault.Message, null, fault),
        UnauthorizedAccessException => Write(
            ExitCode.Refused, NameOf(FaultReason.Denied), failure.Message, "run this as the user who owns the file, or name another place", failure),
        _ => Write(ExitCode.Failed, ExitCode.NameOf(ExitCode.Failed), failure.Message, null, failure),
    };

    /// <returns>The exit code.</returns>
    public int Write(int exitCode, string reason, string message, string? next, Exception? cause = null)
    {
        if (format == OutputFormat.Json)
        {
            _terminal.ErrorWriter.WriteLine(Json.WriteLine(new { Error = new ErrorView(exitCode, reason, message, next) }));
        }
        else if (_terminal.ErrorIsTerminal)
        {
            // Sentences wrap between words; commands stay whole, to be copied.
            _terminal.Error.Write(TextLayout.Cell($"error: {message}"));
            _terminal.Error.WriteLine();
        }
        else
        {
            _terminal.ErrorWriter.WriteLine($"error: {message}");
        }
        if (next is not null && format != OutputFormat.Json)
        {
            _terminal.ErrorWriter.WriteLine($"next: {next}");
        }
        if (cause is not null && context.Variables("VIRTBACKUP_TRACE") == "1")
        {
            _terminal.ErrorWriter.WriteLine(cause);
        }
        return exitCode;
    }

    private static string ReasonOf(CommandFault fault) =>
        fault.InnerException is FaultException { Reason: not FaultReason.Unspecified } inner ? NameOf(inner.Reason) : ExitCode.NameOf(fault.ExitCode);

    private static string NameOf(FaultReason reason) => reason == FaultReason.Unspecified ? ExitCode.NameOf(ExitCode.Failed) : SnakeCase.Of(reason.ToString());
}

/// <summary>A failure for programs.</summary>
/// <param name="ExitCode">Of the process.</param>
/// <param name="Reason">What kind it is, such as <c>not_found</c>.</param>
/// <param name="Message">For people.</param>
/// <param name="Next">The step to take; null: the message says it all.</param>
internal sealed record ErrorView(int ExitCode, string Reason, string Message, string? Next);

using System.CommandLine;
using VirtBackup.Cli.Commands;
using VirtBackup.Core;

namespace VirtBackup.Cli;

/// <summary>One command, from its words to its exit code.</summary>
internal static class CommandRun
{
    public static async Task<int> RunAsync(CliContext context, IReadOnlyList<string> arguments)
    {
        var parse = CommandTree.Create(context).Parse(arguments);
        var failures = new FailureReport(context, FailureReport.FormatOf(parse));
        var interrupted = context.Interrupts.First;
        try
        {
            return parse.Errors.Count > 0
                ? UsageErrors.Report(parse, failures, context.Terminal.ErrorWriter)
                : await parse.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }, interrupted);
        }
        catch (OperationCanceledException) when (interrupted.IsCancellationRequested)
        {
            return ExitCode.Interrupted;
        }
        catch (Exception failure) when (failure is CommandFault or FaultException or IOException or UnauthorizedAccessException)
        {
            return failures.Write(failure);
        }
    }
}

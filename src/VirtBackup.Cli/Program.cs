using System.CommandLine;
using VirtBackup.Cli;
using VirtBackup.Cli.Commands;
using VirtBackup.Cli.Output;
using VirtBackup.Core;

using var interrupts = Interrupts.Register();
Func<string, string?> variables = Environment.GetEnvironmentVariable;
var terminal = Terminal.OfProcess(variables);
var context = new CliContext(terminal, interrupts, TimeProvider.System, SystemEntropy.Instance, variables);
var parse = CommandTree.Create(context).Parse(args);
var failures = new FailureReport(context, FailureReport.FormatOf(parse));
try
{
    return parse.Errors.Count > 0
        ? UsageErrors.Report(parse, failures, terminal.ErrorWriter)
        : await parse.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }, interrupts.First);
}
catch (OperationCanceledException) when (interrupts.First.IsCancellationRequested)
{
    return ExitCode.Interrupted;
}
catch (Exception failure) when (failure is CommandFault or FaultException or IOException or UnauthorizedAccessException)
{
    return failures.Write(failure);
}

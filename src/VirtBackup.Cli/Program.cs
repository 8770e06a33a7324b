using VirtBackup.Cli;
using VirtBackup.Cli.Output;
using VirtBackup.Core;

using var interrupts = Interrupts.Register();
Func<string, string?> variables = Environment.GetEnvironmentVariable;
var terminal = Terminal.OfProcess(variables);
var context = new CliContext(terminal, interrupts, TimeProvider.System, SystemEntropy.Instance, variables);
try
{
    var parse = CommandTree.Create(context).Parse(args);
    if (parse.Errors.Count > 0)
    {
        foreach (var error in parse.Errors)
        {
            terminal.ErrorWriter.WriteLine($"error: {error.Message}");
        }
        terminal.ErrorWriter.WriteLine($"next: {string.Join(' ', new[] { "virtbackup" }.Concat(args.TakeWhile(static word => !word.StartsWith('-')).Take(2)))} --help");
        return ExitCode.Usage;
    }
    var code = await parse.InvokeAsync(new System.CommandLine.InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }, interrupts.First);
    return code;
}
catch (OperationCanceledException) when (interrupts.First.IsCancellationRequested)
{
    return ExitCode.Interrupted;
}
catch (CommandFault fault)
{
    return Fail(fault.ExitCode, fault.Message, fault.Next, fault);
}
catch (FaultException fault)
{
    return Fail(ExitCode.Of(fault.Reason), fault.Message, null, fault);
}
catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
{
    return Fail(ExitCode.Failed, fault.Message, null, fault);
}

int Fail(int code, string message, string? next, Exception fault)
{
    terminal.ErrorWriter.WriteLine($"error: {message}");
    if (next is not null)
    {
        terminal.ErrorWriter.WriteLine($"next: {next}");
    }
    if (variables("VIRTBACKUP_TRACE") == "1")
    {
        terminal.ErrorWriter.WriteLine(fault);
    }
    return code;
}

using VirtBackup.Cli;
using VirtBackup.Cli.Output;
using VirtBackup.Core;
using VirtBackup.Testing.Installations;

namespace VirtBackup.Testing.CommandLine;

/// <summary>
/// The command line within the process of a test: a process of its own takes ten times as long to start as most commands
/// to run. That the program does the same is for those tests of VirtBackup.Cli.Tests that start it.
/// </summary>
public static class LoadedCommandLine
{
    /// <summary>Every <see cref="Installation"/> uses it from now on.</summary>
    public static void Install() => Installation.CommandLine = RunAsync;

    /// <summary>Runs a command whose standard input is empty.</summary>
    /// <param name="arguments">Behind the program's name.</param>
    /// <param name="environment">What differs from the test's own; null: it is not set.</param>
    /// <param name="cancellationToken">Ends the waiting, not the command.</param>
    public static async Task<CommandResult> RunAsync(IReadOnlyList<string> arguments, IReadOnlyDictionary<string, string?> environment, CancellationToken cancellationToken)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        using var interrupts = new Interrupts();
        string? Find(string name) => environment.TryGetValue(name, out var value) ? value : Environment.GetEnvironmentVariable(name);
        var context = new CliContext(Terminal.OfStreams(TextReader.Null, output, error), interrupts, TimeProvider.System, SystemEntropy.Instance, Find);
        // As a process of its own, it does not hold up who asks.
        var exitCode = await Task.Run(() => CommandRun.RunAsync(context, arguments), cancellationToken).WaitAsync(cancellationToken);
        return new CommandResult(string.Join(' ', arguments), exitCode, output.ToString(), error.ToString());
    }
}

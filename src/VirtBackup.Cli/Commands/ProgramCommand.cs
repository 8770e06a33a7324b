using System.CommandLine;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Commands;

/// <summary>A verb. Failures leave as exceptions; <see cref="Program"/> reports them.</summary>
internal abstract class ProgramCommand : Command
{
    protected ProgramCommand(string name, string description, CliContext context)
        : base(name, description)
    {
        Context = context;
        SetAction(RunAsync);
    }

    protected CliContext Context { get; }

    /// <returns>The exit code.</returns>
    protected abstract Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken);

    protected Report ReportFor(ParseResult parse) => new(Context.Terminal, parse.GetValue(GlobalOptions.Output));
}

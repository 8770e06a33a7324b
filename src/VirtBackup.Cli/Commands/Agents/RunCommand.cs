using System.CommandLine;
using VirtBackup.Cli.Services;

namespace VirtBackup.Cli.Commands.Agents;

internal sealed class RunCommand : ProgramCommand
{
    private readonly Option<string> _config = new("--config")
    {
        Description = "The agent's configuration", HelpName = "FILE", DefaultValueFactory = static _ => "/etc/virtbackup/agent.yaml",
    };

    public RunCommand(CliContext context)
        : base("run", "Run this host's agent in the foreground", context) => Add(_config);

    protected override Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken) =>
        ServiceProgram.Agent.RunAsync(["--config", parse.GetRequiredValue(_config)], Context);
}

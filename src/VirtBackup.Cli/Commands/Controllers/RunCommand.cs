using System.CommandLine;
using VirtBackup.Cli.Services;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Commands.Controllers;

internal sealed class RunCommand : ProgramCommand
{
    private readonly Option<string> _data = new("--data")
    {
        Description = "The controller's folder", HelpName = "DIR", DefaultValueFactory = static _ => ControllerHome.DefaultFolder,
    };

    public RunCommand(CliContext context)
        : base("run", "Run the controller in the foreground", context) => Add(_data);

    protected override Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken) =>
        ServiceProgram.Controller.RunAsync(["--data", parse.GetRequiredValue(_data)], Context);
}

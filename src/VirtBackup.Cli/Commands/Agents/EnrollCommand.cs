using Spectre.Console;
using System.CommandLine;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Setup;

namespace VirtBackup.Cli.Commands.Agents;

internal sealed class EnrollCommand : ProgramCommand
{
    private readonly Argument<string> _token = new("token") { Description = "The join token, or - to read it from standard input" };

    private readonly Option<string?> _name = new("--name") { Description = "Name of the agent [default: the token's, else this host's]", HelpName = "NAME" };

    private readonly Option<string> _home = new("--home")
    {
        Description = "The agent's folder", HelpName = "DIR", DefaultValueFactory = static _ => AgentEnrollment.DefaultHome,
    };

    private readonly Option<string?> _controller = new("--controller") { Description = "Address of the controller [default: as the token says]", HelpName = "HOST:PORT" };

    public EnrollCommand(CliContext context)
        : base("enroll", "Enroll this host's agent with a join token", context)
    {
        Add(_token);
        Add(_name);
        Add(_home);
        Add(_controller);
    }

    protected override async Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var token = parse.GetRequiredValue(_token);
        if (token == "-")
        {
            token = await Context.Terminal.Input.ReadLineAsync(cancellationToken) ?? "";
        }
        var enrollment = new AgentEnrollment(Context, parse.GetRequiredValue(_home));
        var enrolled = await enrollment.RunAsync(token, parse.GetValue(_name), parse.GetValue(_controller), cancellationToken);
        ReportFor(parse).Write(enrolled, static (console, agent) =>
        {
            console.Write(TextLayout.Cell($"This host is enrolled as agent '{agent.Agent}'.", TextLayout.Good));
            console.WriteLine();
            TextLayout.Facts(
                console,
                ("Controller", TextLayout.Cell(agent.Controller)),
                ("Home", TextLayout.Cell(agent.Home)),
                ("Certificate until", TextLayout.Cell(Units.Time(agent.CertificateExpireTime))),
                ("Configuration", TextLayout.Cell($"name this host's machines in agent.yaml, with 'home: {agent.Home}' (deploy/agent.yaml is a template)")),
                ("Next", TextLayout.Cell("virtbackup agent run --config agent.yaml")));
        });
        return ExitCode.Succeeded;
    }
}

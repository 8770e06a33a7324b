using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Commands.Dependencies;

internal sealed class ProbeCommand : RemoteCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();
    private readonly Option<bool> _guestAgent = new("--guest-agent") { Description = "Ready when the guest's agent answers" };
    private readonly Option<string?> _tcp = new("--tcp") { Description = "Ready when the agent's host can connect to it", HelpName = "HOST:PORT" };
    private readonly Option<string?> _http = new("--http") { Description = "Ready when a GET by the agent's host is answered with a status from 200 to 399", HelpName = "URL" };

    private readonly Option<string?> _command = new("--command")
    {
        Description = "Ready when the command that agent.yaml calls so under 'probes' ends with exit code 0", HelpName = "NAME",
    };

    private readonly Option<bool> _none = new("--none") { Description = "No probe: ready when it runs" };
    private readonly Option<double?> _timeout = new("--timeout") { Description = "From the start until the machine counts as failed [default: 300]", HelpName = "SECONDS" };
    private readonly Option<double?> _interval = new("--interval") { Description = "Between attempts [default: 1]", HelpName = "SECONDS" };

    public ProbeCommand(CliContext context)
        : base("probe", "Say how a virtual machine tells that it is ready, so that what needs it can be started", context)
    {
        Add(_machine);
        Add(_guestAgent);
        Add(_tcp);
        Add(_http);
        Add(_command);
        Add(_none);
        Add(_timeout);
        Add(_interval);
        Validators.Add(result =>
        {
            var given = (result.GetValue(_guestAgent) ? 1 : 0) + (result.GetValue(_tcp) is null ? 0 : 1) + (result.GetValue(_http) is null ? 0 : 1) + (result.GetValue(_command) is null ? 0 : 1)
                + (result.GetValue(_none) ? 1 : 0);
            if (given != 1)
            {
                result.AddError("Say how it is told, by exactly one of --guest-agent, --tcp HOST:PORT, --http URL, --command NAME and --none.");
            }
        });
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new SetProbeRequest { Vm = parse.GetRequiredValue(_machine), Probe = parse.GetValue(_none) ? null : Read(parse) };
        var response = await controller.CallAsync(controller.Recovery.SetProbeAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines);
        report.Write(DependencyView.Of(response.Machine), DependencyTables.WriteOne);
        return ExitCode.Succeeded;
    }

    private ReadinessProbe Read(ParseResult parse)
    {
        var probe = new ReadinessProbe { TimeoutMs = ToMs("--timeout", parse.GetValue(_timeout)), IntervalMs = ToMs("--interval", parse.GetValue(_interval)) };
        if (parse.GetValue(_tcp) is { } tcp)
        {
            probe.Tcp = tcp;
        }
        else if (parse.GetValue(_http) is { } http)
        {
            probe.Http = http;
        }
        else if (parse.GetValue(_command) is { } command)
        {
            probe.Command = command;
        }
        else
        {
            probe.GuestAgent = true;
        }
        return probe;
    }

    private static uint ToMs(string option, double? seconds) => seconds switch
    {
        null => 0,
        >= 0.001 and <= 86_400 => (uint)Math.Round(seconds.Value * 1000),
        _ => throw CommandFault.Usage($"{option} takes seconds, at most a day's."),
    };
}

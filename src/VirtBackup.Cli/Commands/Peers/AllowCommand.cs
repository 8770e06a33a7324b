using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Peers;

internal sealed class AllowCommand : RemoteCommand
{
    private readonly Argument<string> _peer = ReferenceArguments.Peer();
    private readonly Option<string[]> _machines = new("--vm") { Description = "A virtual machine whose recovery points it may read; may be given again", HelpName = "VM" };
    private readonly Option<bool> _all = new("--all") { Description = "The recovery points of all machines, also of later ones" };
    private readonly Option<bool> _nothing = new("--nothing") { Description = "Nothing any more; what it has stays with it" };

    public AllowCommand(CliContext context)
        : base("allow", "Say what another controller may read here, in place of what it might", context)
    {
        Add(_peer);
        Add(_machines);
        Add(_all);
        Add(_nothing);
        Validators.Add(result =>
        {
            if ((result.GetValue(_machines) is { Length: > 0 } ? 1 : 0) + (result.GetValue(_all) ? 1 : 0) + (result.GetValue(_nothing) ? 1 : 0) != 1)
            {
                result.AddError("Say what it may read, by exactly one of --vm VM, --all and --nothing.");
            }
        });
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new AllowPeerRequest { Name = parse.GetRequiredValue(_peer), All = parse.GetValue(_all), Vms = { parse.GetValue(_machines) ?? [] } };
        var response = await controller.CallAsync(
            controller.Replication.AllowPeerAsync(request, cancellationToken: cancellationToken), cancellationToken, $"{NextSteps.ListPeers}; {NextSteps.ListMachines}");
        report.Write(PeerView.Of(response.Peer), static (console, peer) =>
        {
            console.Write(TextLayout.Cell($"'{peer.Name}' may read here: {peer.MayRead}."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}

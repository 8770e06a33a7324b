using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Dependencies;

/// <summary><c>add</c> and <c>remove</c>.</summary>
internal sealed class ChangeCommand : RemoteCommand
{
    private readonly bool _adds;
    private readonly Argument<string> _machine = ReferenceArguments.Machine();

    private readonly Option<string> _needs = new("--needs")
    {
        Description = "The virtual machine that is needed: name, id, or an unambiguous start of the id", HelpName = "VM", Required = true,
    };

    public ChangeCommand(CliContext context, bool adds)
        : base(
            adds ? "add" : "remove",
            adds ? "Say that a virtual machine needs another: a recovery starts it only when that one is ready" : "Say that a virtual machine does not need another any more", context)
    {
        _adds = adds;
        Add(_machine);
        Add(_needs);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var (machine, needs) = (parse.GetRequiredValue(_machine), parse.GetRequiredValue(_needs));
        var changed = _adds
            ? (await controller.CallAsync(
                controller.Recovery.AddDependencyAsync(new AddDependencyRequest { Vm = machine, Needs = needs }, cancellationToken: cancellationToken), cancellationToken, NextSteps.ShowDependencies)).Machine
            : (await controller.CallAsync(
                controller.Recovery.RemoveDependencyAsync(new RemoveDependencyRequest { Vm = machine, Needs = needs }, cancellationToken: cancellationToken), cancellationToken, NextSteps.ShowDependencies)).Machine;
        report.Write(DependencyView.Of(changed), DependencyTables.WriteOne);
        return ExitCode.Succeeded;
    }
}

using Spectre.Console;
using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Machines;

internal sealed class ShowCommand : RemoteCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();

    public ShowCommand(CliContext context)
        : base("show", "Show one virtual machine, its disks, its last jobs, what its backup runs brought, and what audits of its change tracking found", context) => Add(_machine);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new GetVirtualMachineRequest { Vm = parse.GetRequiredValue(_machine) };
        var found = await controller.CallAsync(
            controller.Admin.GetVirtualMachineAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines);
        var view = new { VirtualMachine = MachineView.Of(found.VirtualMachine), RecentJobs = found.RecentJobs.Select(JobView.Of).ToList(), RecentRuns = found.RecentRuns.Select(RunView.Of).ToList(), TrackingAudit = TrackingAuditView.Of(found.TrackingAudit) };
        report.Write(view, static (console, shown) =>
        {
            var machine = shown.VirtualMachine;
            TextLayout.Facts(
                console,
                ("VM", TextLayout.Cell(machine.Name)),
                ("Id", TextLayout.Cell(machine.VmId)),
                ("Agent", TextLayout.Optional(machine.Agent)),
                ("State", TextLayout.Cell(machine.Whereabouts)),
                ("Problem", TextLayout.Optional(machine.Problem, TextLayout.Bad)),
                ("Recovery points", TextLayout.Cell(Units.Count(machine.RecoveryPoints))),
                ("Last point", TextLayout.Cell(Units.Time(machine.LastPointTime))),
                ("Guest's writes", TextLayout.Optional(shown.RecentJobs.Select(static job => job.Result?.Backup?.Impact).FirstOrDefault(static impact => impact is not null)?.Text)),
                ("Retention", TextLayout.Cell(machine.Retention.Text)));
            console.WriteLine();
            var disks = TextLayout.Columns("DISK", ">SIZE", "FORMAT", "BACKED UP");
            foreach (var disk in machine.Disks)
            {
                disks.AddRow(
                    TextLayout.Cell(disk.Name), TextLayout.Cell(Units.Bytes(disk.LengthBytes)), TextLayout.Cell(disk.Format ?? "-"),
                    disk.SkipReason is { } why ? TextLayout.Cell($"no: {why}", TextLayout.Doubtful) : TextLayout.Cell("yes"));
            }
            console.Write(disks);
            if (shown.RecentJobs.Count > 0)
            {
                console.WriteLine();
                JobTables.WriteList(console, shown.RecentJobs);
            }
            RunTables.Write(console, machine.Name, shown.RecentRuns);
            TrackingAuditTables.Write(console, machine.Name, shown.TrackingAudit);
        });
        return ExitCode.Succeeded;
    }
}

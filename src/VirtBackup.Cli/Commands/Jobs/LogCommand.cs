using Spectre.Console;
using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Jobs;

internal sealed class LogCommand : RemoteCommand
{
    private readonly Argument<string> _job = ReferenceArguments.Job();

    public LogCommand(CliContext context)
        : base("log", "Show what a job did, line by line", context) => Add(_job);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(
            controller.Admin.GetJobLogAsync(new GetJobLogRequest { JobId = parse.GetRequiredValue(_job) }, cancellationToken: cancellationToken),
            cancellationToken, NextSteps.ListJobs);
        LogLineView[] lines = [.. response.Lines.Select(static line => new LogLineView(line.Time?.ToDateTimeOffset(), line.Text))];
        report.Write(lines, static (console, view) =>
        {
            foreach (var line in view)
            {
                console.Write(TextLayout.Cell($"{(line.Time is { } time ? Units.Time(time) : "")}  {line.Text}"));
                console.WriteLine();
            }
        });
        return ExitCode.Succeeded;
    }
}

internal sealed record LogLineView(DateTimeOffset? Time, string Text);

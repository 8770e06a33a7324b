using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Google.Protobuf.WellKnownTypes;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.RecoveryPoints;

internal sealed class LockCommand : RemoteCommand
{
    private static readonly string[] Formats = ["yyyy-MM-dd", "yyyy-MM-dd'T'HH:mm'Z'", "yyyy-MM-dd'T'HH:mm:ss'Z'"];

    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly Option<DateTimeOffset?> _until = new("--until") { Description = "End of the lock, UTC: 2031-05-04 or 2031-05-04T12:00Z", HelpName = "TIME", CustomParser = ParseTime };
    private readonly Option<TimeSpan?> _for = new("--for") { Description = "Length of the lock from now: 30d", HelpName = "TIME", CustomParser = Durations.Parse };

    public LockCommand(CliContext context)
        : base("lock", "Lock a recovery point: nobody can forget it before. A lock can be lengthened, never shortened", context)
    {
        Add(_point);
        Add(_until);
        Add(_for);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var (until, span) = (parse.GetValue(_until), parse.GetValue(_for));
        if (until is null == span is null)
        {
            throw CommandFault.Usage("Say when the lock ends: --until 2031-05-04 or --for 30d.");
        }
        var request = new LockPointRequest
        {
            Point = parse.GetRequiredValue(_point), Until = Timestamp.FromDateTimeOffset(until ?? (Context.Time.GetUtcNow() + span!.Value)),
        };
        var response = await controller.CallAsync(
            controller.Retention.LockPointAsync(request, cancellationToken: cancellationToken), cancellationToken, $"virtbackup recovery-point show {request.Point}");
        report.Write(PointView.Of(response.RecoveryPoint), static (console, point) =>
        {
            console.Write(TextLayout.Cell($"Recovery point {point.PointId} of {point.Vm} is locked until {Units.Time(point.Retention?.LockTime)}."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }

    private static DateTimeOffset? ParseTime(ArgumentResult result)
    {
        var text = result.Tokens is [{ Value: var value }] ? value : "";
        if (DateTimeOffset.TryParseExact(text, Formats, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out var time))
        {
            return time;
        }
        result.AddError($"'{text}' is not a time: write it like 2031-05-04 or 2031-05-04T12:00Z.");
        return null;
    }
}

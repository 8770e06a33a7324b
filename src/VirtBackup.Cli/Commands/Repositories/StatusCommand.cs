using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Offline;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Repositories;

internal sealed class StatusCommand : ProgramCommand
{
    private readonly Option<string?> _repository = new("--repository")
    {
        Description = "Look into this folder or address instead of asking the controller; needs neither keys nor a running controller", HelpName = "PLACE",
    };

    public StatusCommand(CliContext context)
        : base("status", "Show what the repository holds", context) => Add(_repository);

    protected override async Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var view = parse.GetValue(_repository) is { Length: > 0 } place
            ? await SurveyAsync(StoreLocation.Parse(place), cancellationToken)
            : await AskAsync(parse, cancellationToken);
        ReportFor(parse).Write(view, static (console, repository) => TextLayout.Facts(
            console,
            [("Repository", TextLayout.Cell(repository.RepositoryId)),
            ("Location", TextLayout.Cell(repository.Location)),
            ("Created", repository.CreateTime is { } created ? TextLayout.Cell(Units.Time(created)) : null),
            ("Algorithms", TextLayout.Optional(repository.Algorithms)),
            ("Recovery points", TextLayout.Cell(repository.ForgottenPoints is > 0 and var forgotten
                ? $"{Units.Count(repository.RecoveryPoints)}, and {Units.Count(forgotten)} forgotten"
                : Units.Count(repository.RecoveryPoints))),
            ("Packs", TextLayout.Cell(Units.Count(repository.Packs))),
            ("Chunks", repository.Chunks is { } chunks ? TextLayout.Cell(Units.Count(chunks)) : null),
            ("Stored", TextLayout.Cell(Units.Bytes(repository.StoredBytes))),
            ("Free", repository.FreeBytes is { } free ? TextLayout.Cell(Units.Bytes(free)) : null),
            ("Requests", repository.Traffic is { } traffic ? TextLayout.Cell(traffic.Describe()) : null),
            ("Generation", TextLayout.Cell(Units.Count(repository.Generation))), .. DamageTables.FactsOf(repository.Proof), .. FactsOf(repository.Collection), .. FactsOf(repository.ProviderLocks)]));
        return ExitCode.Succeeded;
    }

    private static (string, Text?)[] FactsOf(CollectionStateView? collection) => collection is null ? [] :
    [
        ("Collection", TextLayout.Cell(collection.FinishTime is { } finished ? $"went through at {Units.Time(finished)}" : "not yet run")),
        ("Not collected", collection.Problem is { } problem ? TextLayout.Cell(problem, TextLayout.Bad) : null),
        ("Audit", collection.AuditProblem is { } wrong ? TextLayout.Cell(wrong, TextLayout.Bad)
            : TextLayout.Cell(collection.AuditTime is { } audited ? $"all references were counted right at {Units.Time(audited)}" : "not yet run")),
    ];

    private static (string, Text?)[] FactsOf(ProviderLocksView? locks) => locks is null ? [] :
    [
        ("Provider locks", TextLayout.Cell(
            $"{Units.Count(locks.PointsEnforced)} of {Units.Count(locks.PointsLocked)} locked recovery points, {Units.Count(locks.ObjectsRetained)} objects{(locks.ObjectsWaiting > 0 ? $", {Units.Count(locks.ObjectsWaiting)} to go" : "")}")),
        ("Not enforced", locks.Problem is { } problem ? TextLayout.Cell(problem, TextLayout.Bad) : null),
    ];

    private async Task<RepositoryView> AskAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        using var controller = ControllerConnection.Open(CredentialFolder.Locate(parse.GetValue(GlobalOptions.Credentials), Context), Context.Time);
        return RepositoryView.Of(await controller.CallAsync(
            controller.Admin.GetStatusAsync(new GetStatusRequest(), cancellationToken: cancellationToken), cancellationToken));
    }

    private static async Task<RepositoryView> SurveyAsync(StoreLocation location, CancellationToken cancellationToken)
    {
        try
        {
            return await StoreSurvey.RunAsync(location, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
        {
            throw new CommandFault(ExitCode.NotFound, $"There is no repository in '{location.Text}'.", "give the folder or address that was --repository of 'virtbackup controller init', and check that its disk is mounted", fault);
        }
    }
}

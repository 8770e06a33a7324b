using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Following;
using VirtBackup.Cli.Offline;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository;

namespace VirtBackup.Cli.Commands.Repositories;

/// <summary>Everything in the repository: as a job of the running controller, or with a folder in place of a stopped one.</summary>
internal sealed class VerifyCommand : ProgramCommand
{
    private readonly Option<bool> _full = new("--full") { Description = "Also decrypt every chunk and compute its name anew, beside checksums and references" };
    private readonly Option<string?> _data = new("--data") { Description = "Verify here and now, in place of the stopped controller of this folder", HelpName = "DIR" };
    private readonly FollowChoices _follow = new();

    public VerifyCommand(CliContext context)
        : base("verify", "Prove that everything in the repository is whole", context)
    {
        Add(_full);
        Add(_data);
        _follow.AddTo(this);
    }

    public static int Judge(ResultView? result) => result?.Verify is { DamagesTotal: > 0 } ? ExitCode.Damaged : ExitCode.Succeeded;

    protected override async Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var report = ReportFor(parse);
        if (parse.GetValue(_data) is { Length: > 0 } data)
        {
            return await RunOfflineAsync(data, parse.GetValue(_full), report, cancellationToken);
        }
        using var controller = ControllerConnection.Open(CredentialFolder.Locate(parse.GetValue(GlobalOptions.Credentials), Context), Context.Time);
        var request = new StartVerifyRequest { Full = parse.GetValue(_full) };
        var started = await controller.CallAsync(controller.Admin.StartVerifyAsync(request, cancellationToken: cancellationToken), cancellationToken);
        return await _follow.FollowAsync(parse, started.Job, new JobFollower(Context, controller, report), Judge);
    }

    private async Task<int> RunOfflineAsync(string data, bool full, Report report, CancellationToken cancellationToken)
    {
        using var line = new ProgressLine(report, Context.Time);
        await using var controller = await StoppedController.OpenAsync(data, new RepositoryOptions(), Context, cancellationToken);
        var result = new ResultView(null, null, null, null, await OfflineVerification.RunAsync(controller, full, line, cancellationToken));
        line.Dispose();
        report.Write(new { Result = result }, static (console, done) => ResultTables.WriteVerify(console, done.Result.Verify!));
        return Judge(result);
    }
}

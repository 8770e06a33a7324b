using Spectre.Console;
using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Setup;
using VirtBackup.Core;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Commands.Controllers;

internal sealed class InitCommand : ProgramCommand
{
    private readonly Option<string> _data = new("--data")
    {
        Description = "Folder for the controller's keys and databases", HelpName = "DIR", DefaultValueFactory = static _ => ControllerHome.DefaultFolder,
    };

    private readonly Option<string> _repository = new("--repository") { Description = "Folder or address (s3://BUCKET/PREFIX, azure://ACCOUNT/CONTAINER/PREFIX) for the repository: empty, or with --from-kit the existing one", HelpName = "PLACE", Required = true };

    private readonly Option<string[]> _listen = new("--listen")
    {
        Description = "Address and port to listen on; may be repeated", HelpName = "ADDRESS:PORT", DefaultValueFactory = static _ => [ControllerSettings.DefaultListen],
    };

    private readonly Option<string[]> _names = new("--server-name")
    {
        Description = "Name or address under which agents and operators reach the controller; may be repeated [default: this host's name]", HelpName = "NAME",
    };

    private readonly KitChoice _kit = new();

    private readonly Option<string?> _fromKit = new("--from-kit") { Description = "Rebuild the controller of an existing repository from its recovery kit", HelpName = "FILE" };

    private readonly Option<string?> _credentials = new("--operator-credentials")
    {
        Description = "Folder for your operator credentials [default: $VIRTBACKUP_CREDENTIALS or ~/.config/virtbackup]", HelpName = "DIR",
    };

    public InitCommand(CliContext context)
        : base("init", "Set up a controller: certificate authority, repository, recovery kit", context)
    {
        foreach (var option in new Option[] { _data, _repository, _listen, _names, _kit.Option, _fromKit, _credentials })
        {
            Add(option);
        }
    }

    protected override async Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var report = ReportFor(parse);
        var wish = ReadWish(parse);
        var setup = new ControllerSetup(Context);
        NewController made;
        if (parse.GetValue(_fromKit) is { } source)
        {
            using var kit = RecoveryKit.Load(source);
            made = await setup.RebuildAsync(wish, kit, cancellationToken);
        }
        else
        {
            made = await setup.CreateAsync(wish, _kit.HandOver(parse, report), cancellationToken);
        }
        using (made.Kit)
        {
            var view = new InitView(made.Data, made.Repository, made.RepositoryId, made.Address, made.Credentials, _kit.FileOf(parse));
            report.Write(view, static (console, result) =>
            {
                console.Write(TextLayout.Cell("The controller is set up.", TextLayout.Good));
                console.WriteLine();
                TextLayout.Facts(
                    console,
                    ("Controller", TextLayout.Cell(result.Data)),
                    ("Address", TextLayout.Cell(result.Address)),
                    ("Repository", TextLayout.Cell($"{result.Repository} ({result.RepositoryId})")),
                    ("Your credentials", TextLayout.Cell(result.Credentials)),
                    ("Recovery kit", TextLayout.Optional(result.Kit)),
                    ("Next", TextLayout.Cell($"virtbackup controller run --data {result.Data}")));
            });
        }
        return ExitCode.Succeeded;
    }

    private ControllerWish ReadWish(ParseResult parse)
    {
        var names = parse.GetValue(_names) is { Length: > 0 } given ? given : [Environment.MachineName.ToLowerInvariant()];
        var credentials = parse.GetValue(_credentials) is { Length: > 0 } folder ? folder : CredentialFolder.Locate(null, Context).Path;
        return new ControllerWish(
            parse.GetRequiredValue(_data), StoreLocation.Parse(parse.GetRequiredValue(_repository)), parse.GetRequiredValue(_listen), names, credentials, "operator");
    }
}

internal sealed record InitView(string Data, string Repository, string RepositoryId, string Address, string Credentials, string? Kit);

using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Setup;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Commands.Controllers;

/// <summary>Credentials for another operator, or for one whose certificate expired or was lost. Works on the controller's own folder.</summary>
internal sealed class CredentialsCommand : ProgramCommand
{
    private readonly Option<string> _data = new("--data")
    {
        Description = "Folder of the controller's keys and databases", HelpName = "DIR", DefaultValueFactory = static _ => ControllerHome.DefaultFolder,
    };

    private readonly Option<string> _folder = new("--operator-credentials") { Description = "New folder for the credentials", HelpName = "DIR", Required = true };

    private readonly Option<string> _name = new("--name") { Description = "Name of the operator", HelpName = "NAME", DefaultValueFactory = static _ => "operator" };

    public CredentialsCommand(CliContext context)
        : base("credentials", "Make operator credentials, on the controller's host: for another person, or to replace expired ones", context)
    {
        Add(_data);
        Add(_folder);
        Add(_name);
    }

    protected override Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var report = ReportFor(parse);
        var home = new ControllerHome(Path.GetFullPath(parse.GetRequiredValue(_data)));
        var settings = home.ReadSettings();
        var folder = new CredentialFolder(parse.GetRequiredValue(_folder));
        if (folder.Exists)
        {
            throw new CommandFault(ExitCode.Refused, $"'{folder.Path}' holds operator credentials already.", "choose another folder, or move that one away");
        }
        using var authority = home.ReadAuthority(Context.Entropy, Context.Time);
        using var undo = new Undo();
        folder.Write(authority, parse.GetRequiredValue(_name), settings.DialAddress, undo);
        using var certificate = folder.ReadCertificate();
        undo.Keep();
        var view = new CredentialsView(folder.Path, settings.DialAddress, certificate.NotAfter.ToUniversalTime());
        report.Write(view, static (console, made) => TextLayout.Facts(
            console,
            ("Credentials", TextLayout.Cell(made.Credentials)),
            ("Controller", TextLayout.Cell(made.Controller)),
            ("Valid until", TextLayout.Cell(Units.Time(made.ExpireTime))),
            ("Use them", TextLayout.Cell($"virtbackup controller status --credentials {made.Credentials}"))));
        return Task.FromResult(ExitCode.Succeeded);
    }
}

internal sealed record CredentialsView(string Credentials, string Controller, DateTimeOffset ExpireTime);

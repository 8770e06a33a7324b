using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Stores;

internal sealed class AddCommand : RemoteCommand
{
    private readonly Argument<string> _store = new("name") { Description = "What it is to be called: a-z, 0-9, '.' and '-'" };

    private readonly Option<string> _location = new("--location")
    {
        Description = "An empty place: a folder's absolute path on the controller's host, s3://BUCKET/PREFIX or azure://ACCOUNT/CONTAINER/PREFIX; or one that is a copy of this repository already",
        HelpName = "PLACE", Required = true,
    };

    private readonly Option<bool> _offSite = new("--off-site") { Description = "It is at another site: it counts as an off-site copy" };

    private readonly Option<ulong> _rate = new("--rate-limit")
    {
        Description = "Copy at most so much per second, such as 50MiB", HelpName = "BYTES", CustomParser = static result => ByteCount.Parse(result),
    };

    public AddCommand(CliContext context)
        : base("add", "Keep a second place of the repository: the controller needs its credentials in its own environment", context)
    {
        Add(_store);
        Add(_location);
        Add(_offSite);
        Add(_rate);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new AddCopyStoreRequest
        {
            Name = parse.GetRequiredValue(_store), Location = parse.GetRequiredValue(_location), OffSite = parse.GetValue(_offSite), BytesPerSecondMax = parse.GetValue(_rate),
        };
        var response = await controller.CallAsync(
            controller.Copies.AddCopyStoreAsync(request, cancellationToken: cancellationToken), cancellationToken,
            "check the place, and that the controller has the rights and credentials for it, or choose another --location");
        report.Write(CopyStoreView.Of(response.Store), static (console, store) =>
        {
            console.Write(TextLayout.Cell($"'{store.Name}' is a copy store now: {store.Location}", TextLayout.Good));
            console.WriteLine();
            console.Write(TextLayout.Cell("Nothing is copied there before a policy wants it: virtbackup copies set NAME --machines all"));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}

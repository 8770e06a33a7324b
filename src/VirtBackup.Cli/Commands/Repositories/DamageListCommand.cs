using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;

namespace VirtBackup.Cli.Commands.Repositories;

internal sealed class DamageListCommand : RemoteCommand
{
    private readonly Option<bool> _all = new("--all") { Description = "Also damage that is healed, or that nothing needs any more" };

    public DamageListCommand(CliContext context)
        : base("list", "List damaged objects, newest first, and what they take from whom", context) => Add(_all);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var damages = await controller.ListDamagesAsync(parse.GetValue(_all), cancellationToken);
        report.Write(new { Damages = damages.ConvertAll(FoundDamageView.Of) }, static (console, list) => DamageTables.WriteList(console, list.Damages));
        return damages.Exists(static damage => damage.HealedTime is null) ? ExitCode.Damaged : ExitCode.Succeeded;
    }
}

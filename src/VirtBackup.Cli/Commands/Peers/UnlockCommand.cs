using System.CommandLine;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Peers;

internal sealed class UnlockCommand : RemoteCommand
{
    /// <summary>Longest kit that is read from standard input, characters.</summary>
    private const int KitCharsMax = 32 << 10;

    private readonly Argument<string> _peer = new("peer")
    {
        Description = "Name that the other controller has here [default: whichever repository the kit is of]", Arity = ArgumentArity.ZeroOrOne, DefaultValueFactory = static _ => "",
    };

    private readonly Option<string> _kit = new("--kit")
    {
        Description = "File with the recovery kit of the other site, of mode 0600, or - to read it from standard input", HelpName = "FILE", Required = true,
    };

    public UnlockCommand(CliContext context)
        : base("unlock", "Give this controller the keys of another site, so that recovery points which were made there can be restored here", context)
    {
        Add(_peer);
        Add(_kit);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        using var kit = await ReadKitAsync(parse.GetRequiredValue(_kit), cancellationToken);
        var text = RecoveryKitText.Format(kit);
        UnlockPeerResponse unlocked;
        try
        {
            var request = new UnlockPeerRequest { Name = parse.GetValue(_peer) ?? "", RecoveryKit = UnsafeByteOperations.UnsafeWrap(text) };
            unlocked = await controller.CallAsync(controller.Replication.UnlockPeerAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPeers);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(text);
        }
        report.Write(new { unlocked.RepositoryId, unlocked.RecoveryPoints }, static (console, done) =>
        {
            console.Write(TextLayout.Cell($"The keys of repository {done.RepositoryId} are here: {Units.Count(done.RecoveryPoints)} of its recovery points can be restored.", TextLayout.Good));
            console.WriteLine();
            console.WriteLine("Which: virtbackup recovery-point list. Bring one back: virtbackup restore run VM@latest --help");
        });
        return ExitCode.Succeeded;
    }

    /// <summary>The kit is understood here, so that a mistyped one is said before anything is sent.</summary>
    private async Task<RecoveryKit> ReadKitAsync(string file, CancellationToken cancellationToken)
    {
        try
        {
            return file == "-" ? await ReadInputAsync(cancellationToken) : RecoveryKit.Load(file);
        }
        catch (FaultException fault)
        {
            throw new CommandFault(fault, "give the recovery kit of the other site, whole, in a file of mode 0600: --kit FILE");
        }
    }

    private async Task<RecoveryKit> ReadInputAsync(CancellationToken cancellationToken)
    {
        var characters = new char[KitCharsMax];
        var bytes = new byte[Encoding.UTF8.GetMaxByteCount(KitCharsMax)];
        try
        {
            var length = await Context.Terminal.Input.ReadBlockAsync(characters, cancellationToken);
            return RecoveryKitText.Parse(bytes.AsSpan(0, Encoding.UTF8.GetBytes(characters.AsSpan(0, length), bytes)));
        }
        finally
        {
            Array.Clear(characters);
            CryptographicOperations.ZeroMemory(bytes);
        }
    }
}

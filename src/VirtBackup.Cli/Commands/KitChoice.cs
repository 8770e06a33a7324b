using System.CommandLine;
using System.Security.Cryptography;
using System.Text;
using VirtBackup.Cli.Output;
using VirtBackup.Core;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Commands;

/// <summary>Where a recovery kit goes, which is shown once: to the terminal, or to a file.</summary>
internal sealed class KitChoice
{
    private readonly Option<string?> _file = new("--kit") { Description = "Write the recovery kit to a file of mode 0600 instead of the terminal", HelpName = "FILE" };

    public Option Option => _file;

    /// <summary>The file, absolute; null: the terminal.</summary>
    public string? FileOf(ParseResult parse) => parse.GetValue(_file) is { Length: > 0 } file and not "-" ? Path.GetFullPath(file) : null;

    /// <summary>What takes the kit.</summary>
    public Action<RecoveryKit> HandOver(ParseResult parse, Report report) => kit =>
    {
        if (FileOf(parse) is { } file)
        {
            Save(kit, file);
        }
        else if (report.IsJson)
        {
            // A program that reads JSON gets it in a file only, so that it does not end in a log.
            throw CommandFault.Usage("The recovery kit has nowhere to go: with --output json it is not printed.", "add --kit FILE");
        }
        else
        {
            Print(kit, report.Terminal.ErrorWriter);
        }
    };

    private static void Save(RecoveryKit kit, string file)
    {
        if (File.Exists(file))
        {
            throw new CommandFault(ExitCode.Refused, $"'{file}' exists already: a recovery kit never replaces a file.", "choose another file with --kit");
        }
        try
        {
            kit.Save(file);
        }
        catch (FaultException fault)
        {
            throw new CommandFault(
                fault.Reason == FaultReason.Denied ? ExitCode.Refused : ExitCode.Failed, $"The recovery kit cannot be written to '{file}'. Nothing was set up.",
                "name a file in a folder that exists and that you may write to: --kit FILE", fault);
        }
    }

    private static void Print(RecoveryKit kit, TextWriter writer)
    {
        var text = RecoveryKitText.Format(kit);
        writer.WriteLine("Print or write down the recovery kit and keep it away from this machine. It is not shown again.\n");
        writer.WriteLine(Encoding.UTF8.GetString(text));
        CryptographicOperations.ZeroMemory(text);
    }
}

namespace VirtBackup.Cli.Commands.Migrations;

/// <summary>Asks before something is deleted for good.</summary>
internal static class Confirmation
{
    /// <param name="what">Happens, in a sentence.</param>
    /// <param name="otherwise">What to do where nobody can be asked.</param>
    /// <exception cref="CommandFault">Nobody can be asked, or the answer is no.</exception>
    public static void Require(CliContext context, string what, string otherwise)
    {
        if (!context.Terminal.InputIsTerminal)
        {
            throw new CommandFault(ExitCode.Usage, $"{what} Nobody can be asked here whether that is meant.", otherwise);
        }
        context.Terminal.ErrorWriter.Write($"{what} Go on? [y/N] ");
        if (context.Terminal.Input.ReadLine()?.Trim() is not ("y" or "Y" or "yes"))
        {
            throw new CommandFault(ExitCode.Interrupted, "Nothing was done.");
        }
    }
}

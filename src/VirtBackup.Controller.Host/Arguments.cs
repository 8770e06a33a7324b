using VirtBackup.Identity;

namespace VirtBackup.Controller.Host;

/// <summary>How the process ends.</summary>
internal static class ExitCode
{
    public const int Success = 0;
    public const int Failure = 1;
    public const int Usage = 2;

    /// <summary>Another process runs this controller or owns its repository.</summary>
    public const int Busy = 3;
}

/// <summary>The command line.</summary>
internal static class Arguments
{
    public static bool TryParse(string[] args, out string folder)
    {
        folder = ControllerHome.DefaultFolder;
        switch (args)
        {
            case []:
                return true;
            case ["--data", { Length: > 0 } given]:
                folder = given;
                return true;
            case [var joined] when joined.StartsWith("--data=", StringComparison.Ordinal) && joined.Length > "--data=".Length:
                folder = joined["--data=".Length..];
                return true;
            default:
                return false;
        }
    }
}

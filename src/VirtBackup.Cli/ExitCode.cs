using VirtBackup.Core;

namespace VirtBackup.Cli;

/// <summary>What the program's exit status says; documented in <c>virtbackup --help</c> and stable for scripts.</summary>
internal static class ExitCode
{
    public const int Succeeded = 0;
    public const int Failed = 1;
    public const int Usage = 2;
    public const int Unreachable = 3;
    public const int Refused = 4;
    public const int NotFound = 5;
    public const int Damaged = 6;
    public const int Partial = 7;
    public const int Interrupted = 130;

    /// <summary>The code in a word, for programs.</summary>
    public static string NameOf(int code) => code switch
    {
        Usage => "usage",
        Unreachable => "unreachable",
        Refused => "refused",
        NotFound => "not_found",
        Damaged => "damaged",
        Partial => "partial",
        Interrupted => "interrupted",
        _ => "failed",
    };

    public static int Of(FaultReason reason) => reason switch
    {
        FaultReason.InvalidArgument => Usage,
        FaultReason.Unavailable => Unreachable,
        FaultReason.Denied or FaultReason.AlreadyExists or FaultReason.FailedPrecondition or FaultReason.RepositoryBusy
            or FaultReason.RetentionLocked or FaultReason.Fenced => Refused,
        FaultReason.NotFound => NotFound,
        FaultReason.Corrupt => Damaged,
        FaultReason.Cancelled => Interrupted,
        _ => Failed,
    };
}

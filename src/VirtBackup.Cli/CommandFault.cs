using VirtBackup.Core;

namespace VirtBackup.Cli;

/// <summary>An expected failure of a command: what went wrong, and the next step for the person who ran it.</summary>
internal sealed class CommandFault : Exception
{
    public CommandFault(int exitCode, string message, string? next = null, Exception? inner = null)
        : base(message, inner)
    {
        ExitCode = exitCode;
        Next = next;
    }

    public CommandFault(FaultException fault, string? next)
        : this(Cli.ExitCode.Of(fault.Reason), fault.Message, next, fault)
    {
    }

    public int ExitCode { get; }

    /// <summary>One step, best a command to copy; null: the message says it all.</summary>
    public string? Next { get; }

    public static CommandFault Usage(string message, string? next = null) => new(Cli.ExitCode.Usage, message, next);
}

using System.Diagnostics;

namespace VirtBackup.Testing.Lab;

/// <summary>What a finished program left: its exit code (128 + signal when killed) and everything it printed.</summary>
public sealed record ProcResult(string Command, int ExitCode, string Stdout, string Stderr)
{
    /// <summary>This result, or an exception that shows the command and its output when it failed.</summary>
    public ProcResult EnsureSuccess() => ExitCode == 0
        ? this
        : throw new LabException($"'{Command}' ended with exit code {ExitCode}.\n{Stderr}{Stdout}");
}

/// <summary>Runs programs. Arguments are passed as they are: no shell, no quoting.</summary>
public static class Proc
{
    private static readonly TimeSpan DefaultTimeout = TimeSpan.FromMinutes(2);

    /// <summary>Runs a program to its end, whatever its exit code; kills it and its children on timeout or cancellation.</summary>
    /// <param name="timeout">Two minutes when not given.</param>
    /// <exception cref="TimeoutException">The program was still running; the message holds what it had printed.</exception>
    public static async Task<ProcResult> RunAsync(
        string file,
        IEnumerable<string> arguments,
        TimeSpan? timeout = null,
        string? workingDirectory = null,
        IReadOnlyDictionary<string, string?>? environment = null,
        string? standardInput = null,
        CancellationToken cancellationToken = default)
    {
        await using var running = BackgroundProc.Start(file, arguments, workingDirectory, environment, standardInput);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var allowed = timeout ?? DefaultTimeout;
        limit.CancelAfter(allowed);
        try
        {
            var code = await running.WaitForExitAsync(limit.Token);
            return new ProcResult(running.Command, code, running.Stdout, running.Stderr);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new TimeoutException(
                $"'{running.Command}' was still running after {allowed.TotalSeconds:0} s.\n{running.Stderr}{running.Stdout}");
        }
    }

    /// <summary>Runs a program that must succeed and returns what it printed to standard output.</summary>
    /// <exception cref="LabException">Its exit code was not 0.</exception>
    public static async Task<string> CheckAsync(
        string file, IEnumerable<string> arguments, TimeSpan? timeout = null, CancellationToken cancellationToken = default) =>
        (await RunAsync(file, arguments, timeout, cancellationToken: cancellationToken)).EnsureSuccess().Stdout;

    /// <summary>Runs a line of shell with <c>sh -c</c>.</summary>
    public static Task<ProcResult> ShellAsync(
        string line, TimeSpan? timeout = null, string? workingDirectory = null, CancellationToken cancellationToken = default) =>
        RunAsync("sh", ["-c", line], timeout, workingDirectory, cancellationToken: cancellationToken);

    internal static ProcessStartInfo StartInfo(
        string file, IEnumerable<string> arguments, string? workingDirectory, IReadOnlyDictionary<string, string?>? environment)
    {
        var info = new ProcessStartInfo(file, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
            WorkingDirectory = workingDirectory ?? "",
        };
        foreach (var (name, value) in environment ?? new Dictionary<string, string?>())
        {
            info.Environment[name] = value;
        }
        return info;
    }
}

using System.ComponentModel;
using System.Diagnostics;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors;

/// <summary>How a program ended.</summary>
/// <param name="Output">The start of its standard output, at most <see cref="ProcessRunner.OutputBytesMax"/>.</param>
/// <param name="Error">The start of its standard error, bounded alike.</param>
public sealed record ProcessResult(int ExitCode, string Output, string Error);

/// <summary>Runs helper programs to their end. Cancellation or the time limit kills what was started.</summary>
public sealed class ProcessRunner(TimeProvider time)
{
    /// <summary>Longest output kept of each stream; the rest is read and dropped, so that the program never blocks.</summary>
    public const int OutputBytesMax = 1 << 20;

    /// <summary>Runs a program, which reads <paramref name="input"/> on its standard input; that stays open, so that it ends by itself. Null: nothing to read.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Unsupported"/>: the program is not installed; <see cref="FaultReason.Unavailable"/>: it did not end in time.
    /// </exception>
    public async Task<ProcessResult> RunAsync(
        string program, IReadOnlyList<string> arguments, TimeSpan timeout, CancellationToken cancellationToken, string? input = null)
    {
        using var deadline = new CancellationTokenSource(timeout, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        using var process = Start(program, arguments, keepsInput: input is not null);
        try
        {
            if (input is not null)
            {
                await WriteAsync(process.StandardInput, input, linked.Token);
            }
            var output = ReadBoundedAsync(process.StandardOutput.BaseStream, linked.Token);
            var error = ReadBoundedAsync(process.StandardError.BaseStream, linked.Token);
            var outputText = await output;
            var errorText = await error;
            await process.WaitForExitAsync(linked.Token);
            return new ProcessResult(process.ExitCode, outputText, errorText);
        }
        catch (OperationCanceledException) when (deadline.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            throw new FaultException(FaultReason.Unavailable, $"{program} did not end within {timeout.TotalSeconds:0} s and was stopped.");
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }

    /// <summary>Runs a program that must succeed.</summary>
    /// <returns>Its standard output.</returns>
    public async Task<string> RequireAsync(string program, IReadOnlyList<string> arguments, TimeSpan timeout, CancellationToken cancellationToken)
    {
        var result = await RunAsync(program, arguments, timeout, cancellationToken);
        if (result.ExitCode == 0)
        {
            return result.Output;
        }
        var full = result.Error.Contains("No space left", StringComparison.OrdinalIgnoreCase);
        throw new FaultException(full ? FaultReason.DeviceFull : FaultReason.FailedPrecondition,
            $"{program} {(arguments.Count > 0 ? arguments[0] : "")} failed with code {result.ExitCode}: {LastLines(result.Error, 3)}");
    }

    /// <summary>Starts a program with redirected output; the caller owns it and must read both streams.</summary>
    internal static Process Start(string program, IReadOnlyList<string> arguments, bool redirect = true, bool keepsInput = false)
    {
        var start = new ProcessStartInfo(program)
        {
            UseShellExecute = false, RedirectStandardOutput = redirect, RedirectStandardError = redirect, RedirectStandardInput = redirect,
        };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }
        try
        {
            var process = Process.Start(start) ?? throw new InvariantException($"{program} gave no process.");
            if (redirect && !keepsInput)
            {
                process.StandardInput.Close();
            }
            return process;
        }
        catch (Win32Exception failure)
        {
            throw new FaultException(FaultReason.Unsupported, $"{program} could not be started ({failure.Message}). Install it or set its path.", failure);
        }
    }

    private static async Task WriteAsync(StreamWriter writer, string input, CancellationToken cancellationToken)
    {
        try
        {
            await writer.WriteAsync(input.AsMemory(), cancellationToken);
            await writer.FlushAsync(cancellationToken);
        }
        catch (IOException)
        {
            // It ended without reading: its exit code and its error output say why.
        }
    }

    internal static string LastLines(string text, int count)
    {
        var lines = text.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return lines.Length == 0 ? "it said nothing" : string.Join(" / ", lines.TakeLast(count));
    }

    internal static async Task<string> ReadBoundedAsync(Stream stream, CancellationToken cancellationToken)
    {
        var kept = new MemoryStream();
        var buffer = new byte[16 << 10];
        int count;
        while ((count = await stream.ReadAsync(buffer, cancellationToken)) > 0)
        {
            kept.Write(buffer, 0, (int)Math.Min(count, OutputBytesMax - kept.Length));
        }
        return Encoding.UTF8.GetString(kept.GetBuffer(), 0, (int)kept.Length);
    }
}

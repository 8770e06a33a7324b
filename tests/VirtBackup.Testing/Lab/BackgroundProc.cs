using System.Diagnostics;
using System.Text;

namespace VirtBackup.Testing.Lab;

/// <summary>
/// A program running beside the test, with its output collected. Disposal kills it and its children and waits for its end.
/// All members may be called concurrently.
/// </summary>
public sealed class BackgroundProc : IAsyncDisposable
{
    private static readonly TimeSpan EndLimit = TimeSpan.FromMinutes(2);
    private readonly Process process;
    private readonly Lock gate = new();
    private readonly StringBuilder stdout = new();
    private readonly StringBuilder stderr = new();
    private TaskCompletionSource changed = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private BackgroundProc(Process process, string command)
    {
        this.process = process;
        Command = command;
    }

    /// <summary>The program and its arguments, for messages.</summary>
    public string Command { get; }

    public int Pid { get; private set; }

    public bool HasExited => process.HasExited;

    /// <summary>What was printed so far.</summary>
    public string Stdout
    {
        get { lock (gate) return stdout.ToString(); }
    }

    /// <inheritdoc cref="Stdout"/>
    public string Stderr
    {
        get { lock (gate) return stderr.ToString(); }
    }

    /// <summary>What its threads are doing, a line each, for messages: name, state and what each waits for in the kernel.</summary>
    public string Threads
    {
        get
        {
            var lines = new StringBuilder();
            try
            {
                foreach (var thread in Directory.GetDirectories($"/proc/{Pid}/task"))
                {
                    string Read(string name) => File.ReadAllText(Path.Combine(thread, name)).Trim();
                    // proc(5): the state is behind the name, which may hold anything but the last parenthesis.
                    var stat = Read("stat");
                    lines.Append($"  {Read("comm"),-16} {stat[stat.LastIndexOf(')') + 2]} {Read("wchan")}\n");
                }
            }
            catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
            {
                lines.Append($"  {gone.Message}\n");
            }
            return lines.ToString();
        }
    }

    public static BackgroundProc Start(
        string file,
        IEnumerable<string> arguments,
        string? workingDirectory = null,
        IReadOnlyDictionary<string, string?>? environment = null,
        string? standardInput = null)
    {
        var info = Proc.StartInfo(file, arguments, workingDirectory, environment);
        var process = new Process { StartInfo = info };
        var running = new BackgroundProc(process, string.Join(' ', info.ArgumentList.Prepend(file)));
        process.OutputDataReceived += (_, e) => running.Append(running.stdout, e.Data);
        process.ErrorDataReceived += (_, e) => running.Append(running.stderr, e.Data);
        try
        {
            process.Start();
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            process.Dispose();
            throw new LabException($"'{file}' could not be started: {e.Message}. Is it installed?", e);
        }
        running.Pid = process.Id;
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        try
        {
            process.StandardInput.Write(standardInput);
            process.StandardInput.Close();
        }
        catch (IOException)
        {
            // It ended without reading its input; its exit code tells.
        }
        return running;
    }

    /// <summary>Waits for a line, already printed or to come, to standard output or error, that contains the text.</summary>
    /// <exception cref="LabException">The program ended first.</exception>
    /// <exception cref="TimeoutException">It did not come in time (30 s when not given).</exception>
    public async Task<string> WaitForLineAsync(string text, TimeSpan? timeout = null, CancellationToken cancellationToken = default)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(timeout ?? TimeSpan.FromSeconds(90));
        var exited = process.WaitForExitAsync(limit.Token);
        while (true)
        {
            Task next;
            var ended = exited.IsCompletedSuccessfully;
            lock (gate)
            {
                var line = stdout.ToString().Split('\n').Concat(stderr.ToString().Split('\n'))
                    .FirstOrDefault(l => l.Contains(text, StringComparison.Ordinal));
                if (line is not null) return line;
                next = changed.Task;
            }
            if (ended) throw new LabException($"'{Command}' ended with exit code {process.ExitCode} without printing '{text}'.\n{Stderr}{Stdout}");
            try
            {
                await (await Task.WhenAny(next, exited)).WaitAsync(limit.Token);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                throw new TimeoutException($"'{Command}' did not print '{text}' in time.\n{Stderr}{Stdout}");
            }
        }
    }

    /// <summary>The exit code, when the program has ended and its output is complete.</summary>
    public async Task<int> WaitForExitAsync(CancellationToken cancellationToken = default)
    {
        await process.WaitForExitAsync(cancellationToken);
        return process.ExitCode;
    }

    /// <summary>SIGTERM: asks the program to end.</summary>
    public async Task TerminateAsync(CancellationToken cancellationToken = default)
    {
        if (!process.HasExited) await Proc.RunAsync("kill", ["-TERM", $"{Pid}"], cancellationToken: cancellationToken);
    }

    /// <summary>SIGKILL to this program alone: no flush, no goodbye. Returns when it is gone.</summary>
    public async Task KillAsync(CancellationToken cancellationToken = default)
    {
        process.Kill();
        await process.WaitForExitAsync(cancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        if (!process.HasExited)
        {
            process.Kill(entireProcessTree: true);
            try
            {
                // Its end is that of its output, too.
                await process.WaitForExitAsync(CancellationToken.None).WaitAsync(EndLimit);
            }
            catch (TimeoutException)
            {
                throw new TimeoutException($"'{Command}' was killed, and {EndLimit.TotalSeconds:0} s later it or somebody that it gave its output to is still there:\n{Threads}");
            }
        }
        process.Dispose();
    }

    private void Append(StringBuilder target, string? line)
    {
        if (line is null) return;
        TaskCompletionSource waiters;
        lock (gate)
        {
            target.Append(line).Append('\n');
            waiters = changed;
            changed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }
        waiters.SetResult();
    }
}

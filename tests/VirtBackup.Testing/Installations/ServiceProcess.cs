using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Links;

namespace VirtBackup.Testing.Installations;

/// <summary>One service of an installation, which can be started, killed, frozen and started again. One caller at a time.</summary>
public sealed class ServiceProcess : IAsyncDisposable
{
    private static readonly TimeSpan EndLimit = TimeSpan.FromMinutes(2);
    private readonly string _program;
    private readonly string[] _arguments;
    private readonly string _ready;
    private readonly NetworkSite? _site;
    private readonly List<string> _earlier = [];
    private BackgroundProc? _process;

    internal ServiceProcess(string program, string[] arguments, string ready, NetworkSite? site = null)
    {
        _site = site;
        _program = program;
        _arguments = arguments;
        _ready = ready;
    }

    public bool IsRunning => _process is { HasExited: false };

    public int Pid => (_process ?? throw new InvalidOperationException($"{_program} is not running.")).Pid;

    /// <summary>What all runs of the service printed.</summary>
    public string Log => string.Concat(_earlier) + RecentLog;

    /// <summary>What the run that was started last printed.</summary>
    public string RecentLog => _process?.Stdout + _process?.Stderr;

    /// <summary>Starts it and waits until it says that it is ready.</summary>
    /// <exception cref="LabException">It ended instead; the message holds what it printed.</exception>
    public async Task StartAsync()
    {
        Launch();
        await _process!.WaitForLineAsync(_ready, TimeSpan.FromMinutes(3));
    }

    /// <summary>Starts it without waiting.</summary>
    public void Launch()
    {
        if (IsRunning) throw new InvalidOperationException($"{_program} is running already.");
        Forget();
        _process = _site is null ? BackgroundProc.Start(_program, _arguments) : _site.Start(_program, _arguments);
    }

    /// <summary>Waits for a line of the run that was started last.</summary>
    public Task<string> WaitForLineAsync(string text, TimeSpan? timeout = null) => _process!.WaitForLineAsync(text, timeout);

    /// <summary>SIGKILL. Returns when it is gone.</summary>
    public Task KillAsync() => _process!.KillAsync();

    /// <summary>SIGTERM, and waits for the end.</summary>
    /// <returns>Its exit code.</returns>
    public async Task<int> StopAsync()
    {
        await _process!.TerminateAsync();
        return await WaitForExitAsync();
    }

    public async Task<int> WaitForExitAsync() => await _process!.WaitForExitAsync().WaitAsync(EndLimit);

    /// <summary>SIGSTOP: to its peers, the host is there but does not answer.</summary>
    public Task FreezeAsync() => Proc.CheckAsync("kill", ["-STOP", $"{Pid}"]);

    /// <summary>SIGCONT.</summary>
    public Task ThawAsync() => Proc.CheckAsync("kill", ["-CONT", $"{Pid}"]);

    public async Task RestartAsync()
    {
        await StopAsync();
        await StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (_process is not null) await _process.DisposeAsync();
    }

    private void Forget()
    {
        if (_process is null) return;
        _earlier.Add(RecentLog);
        _process = null;
    }
}

using System.Runtime.InteropServices;
using VirtBackup.Testing.Installations;

namespace VirtBackup.Proofs.PlanCalibration.Restores;

/// <summary>What else goes on while restores run.</summary>
internal enum LoadKind
{
    None,
    Processors,
    Disk,
    Throttled,
}

/// <summary>A load of one kind, from now until it is disposed of.</summary>
internal sealed class HostLoad : IAsyncDisposable
{
    private const int Stop = 19; // SIGSTOP
    private const int Continue = 18; // SIGCONT
    private const int WriteBytes = 4 << 20;
    private static readonly TimeSpan Turn = TimeSpan.FromMilliseconds(20);
    private readonly CancellationTokenSource _over = new();
    private readonly List<Task> _tasks = [];
    private readonly int? _throttled;

    /// <param name="kind">Which kind.</param>
    /// <param name="strength">1 to 3.</param>
    /// <param name="folder">Where a disk is kept busy.</param>
    /// <param name="agent">What is throttled.</param>
    public HostLoad(LoadKind kind, int strength, string folder, ServiceProcess agent)
    {
        switch (kind)
        {
            case LoadKind.Processors:
                for (var i = 0; i < strength; i++) _tasks.Add(Task.Factory.StartNew(Burn, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default));
                break;
            case LoadKind.Disk:
                for (var i = 0; i < strength; i++) _tasks.Add(WriteAsync(Path.Combine(folder, $"load-{i}")));
                break;
            case LoadKind.Throttled:
                _throttled = agent.Pid;
                _tasks.Add(ThrottleAsync(agent.Pid, strength));
                break;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _over.CancelAsync();
        await Task.WhenAll(_tasks);
        if (_throttled is { } pid) _ = Signal(pid, Continue);
        _over.Dispose();
    }

    private void Burn()
    {
        for (double x = 1; !_over.IsCancellationRequested;)
        {
            for (var i = 0; i < 10_000; i++) x = Math.Sqrt(x + i);
        }
    }

    private async Task WriteAsync(string path)
    {
        await Task.Yield();
        var block = new byte[WriteBytes];
        Random.Shared.NextBytes(block);
        using (var file = File.OpenHandle(path, FileMode.Create, FileAccess.Write))
        {
            for (long i = 0; !_over.IsCancellationRequested; i++)
            {
                await RandomAccess.WriteAsync(file, block, i % 8 * WriteBytes, CancellationToken.None);
                RandomAccess.FlushToDisk(file);
            }
        }
        File.Delete(path);
    }

    /// <summary>The agent gets one turn of two, of three, or of four.</summary>
    private async Task ThrottleAsync(int pid, int strength)
    {
        await Task.Yield();
        while (!_over.IsCancellationRequested)
        {
            _ = Signal(pid, Stop);
            await Task.Delay(Turn * strength, CancellationToken.None);
            _ = Signal(pid, Continue);
            await Task.Delay(Turn, CancellationToken.None);
        }
    }

    [DllImport("libc", EntryPoint = "kill", SetLastError = false)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Signal(int process, int signal);
}

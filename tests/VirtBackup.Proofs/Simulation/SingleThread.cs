using System.Diagnostics;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Simulation;

/// <summary>
/// Runs async code on one thread in a fixed order, with a clock of its own that jumps to the next timer when there is
/// nothing else to do.
/// </summary>
internal sealed class SingleThread : SynchronizationContext
{
    /// <summary>Work that left the thread for a moment (a cancellation's callbacks, a file) gets this long to come back.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(4);

    private static readonly TimeSpan StuckMax = TimeSpan.FromSeconds(60);

    private readonly Queue<(SendOrPostCallback Callback, object? State)> _work = new();
    private readonly Lock _gate = new();
    private readonly SemaphoreSlim _arrived = new(0);

    public SingleThread() => Clock = new VirtualClock(this);

    public VirtualClock Clock { get; }

    /// <summary>Runs <paramref name="main"/> to its end.</summary>
    public static void Run(Func<SingleThread, Task> main)
    {
        var before = Current;
        var thread = new SingleThread();
        SetSynchronizationContext(thread);
        try
        {
            var task = main(thread);
            thread.RunUntil(task);
            task.GetAwaiter().GetResult();
        }
        finally
        {
            SetSynchronizationContext(before);
        }
    }

    public override void Post(SendOrPostCallback d, object? state)
    {
        lock (_gate)
        {
            _work.Enqueue((d, state));
        }
        _arrived.Release();
    }

    public override void Send(SendOrPostCallback d, object? state) => throw new NotSupportedException("Nothing may block the only thread.");

    public override SynchronizationContext CreateCopy() => this;

    private void RunUntil(Task task)
    {
        var idleSince = Stopwatch.GetTimestamp();
        while (!task.IsCompleted)
        {
            if (_arrived.Wait(Grace))
            {
                (SendOrPostCallback Callback, object? State) next;
                lock (_gate)
                {
                    next = _work.Dequeue();
                }
                next.Callback(next.State);
                idleSince = Stopwatch.GetTimestamp();
            }
            else if (Clock.Advance())
            {
                idleSince = Stopwatch.GetTimestamp();
            }
            else if (Stopwatch.GetElapsedTime(idleSince) > StuckMax)
            {
                throw new RefutedException("Everything waits for something that never comes.");
            }
        }
    }
}

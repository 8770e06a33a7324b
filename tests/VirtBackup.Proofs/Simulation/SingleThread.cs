using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Simulation;

/// <summary>
/// Runs async code on one thread in a fixed order, with a clock of its own that jumps to the next timer when there is
/// nothing else to do. One at a time in a process, because it holds the thread pool.
/// </summary>
internal sealed class SingleThread : SynchronizationContext
{
    private static readonly TimeSpan StuckMax = TimeSpan.FromSeconds(60);

    private readonly Queue<(SendOrPostCallback Callback, object? State)> _work = new();
    private readonly object _gate = new();

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
            using var pool = new TamedPool();
            var task = main(thread);
            thread.RunUntil(task, pool);
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
            Monitor.Pulse(_gate);
        }
    }

    public override void Send(SendOrPostCallback d, object? state) => throw new NotSupportedException("Nothing may block the only thread.");

    public override SynchronizationContext CreateCopy() => this;

    private void RunUntil(Task task, TamedPool pool)
    {
        pool.Drain();
        while (!task.IsCompleted)
        {
            if (TryTake(out var next))
            {
                next.Callback(next.State);
                pool.Drain();
            }
            else if (!Clock.Advance() && !IsWoken())
            {
                throw new RefutedException("Everything waits for something that never comes.");
            }
        }
    }

    /// <summary>Only files, and the time of the real world, come neither from this thread nor from the pool.</summary>
    private bool IsWoken()
    {
        lock (_gate)
        {
            return _work.Count > 0 || Monitor.Wait(_gate, StuckMax);
        }
    }

    private bool TryTake(out (SendOrPostCallback Callback, object? State) next)
    {
        lock (_gate)
        {
            return _work.TryDequeue(out next);
        }
    }
}

namespace VirtBackup.Proofs.Simulation;

/// <summary>
/// Holds the thread pool, which has a single thread, and lets it work only while the caller waits: what leaves a
/// <see cref="SingleThread"/> (continuations without context, a cancellation's callbacks) comes back before anything else
/// happens, always in the same order.
/// </summary>
internal sealed class TamedPool : IThreadPoolWorkItem, IDisposable
{
    private readonly SemaphoreSlim _idle = new(0);
    private readonly SemaphoreSlim _go = new(0);
    private bool _released;

    static TamedPool() => Core.Check.That(ThreadPool.SetMinThreads(1, 1) && ThreadPool.SetMaxThreads(1, 1));

    public TamedPool()
    {
        ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
        _idle.Wait();
    }

    /// <summary>Lets the pool do all that it was given, and what comes of it.</summary>
    public void Drain()
    {
        if (ThreadPool.PendingWorkItemCount > 0)
        {
            _go.Release();
            _idle.Wait();
        }
    }

    void IThreadPoolWorkItem.Execute()
    {
        while (ThreadPool.PendingWorkItemCount == 0)
        {
            _idle.Release();
            _go.Wait();
            if (_released)
            {
                return;
            }
        }
        // Behind everything that waits now.
        ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
    }

    public void Dispose()
    {
        _released = true;
        _go.Release();
    }
}

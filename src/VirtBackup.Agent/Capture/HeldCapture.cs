using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Capture;

/// <summary>The capture of a run, which may be given up for another while the run lasts. One caller at a time.</summary>
internal sealed class HeldCapture(ICapture first) : IAsyncDisposable
{
    private bool _isGone;

    public ICapture Current { get; private set; } = first;

    /// <summary>Folds the tracking back into the base and cuts anew.</summary>
    public async Task ReplaceAsync(Func<ValueTask<ICapture>> begin, CancellationToken cancellationToken)
    {
        await Current.AbandonAsync(cancellationToken);
        _isGone = true;
        await Current.DisposeAsync();
        Current = await begin();
        _isGone = false;
    }

    public ValueTask DisposeAsync() => _isGone ? ValueTask.CompletedTask : Current.DisposeAsync();
}

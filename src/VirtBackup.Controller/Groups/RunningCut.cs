using System.Threading.Channels;
using VirtBackup.Catalog;

namespace VirtBackup.Controller.Groups;

/// <summary>A cut under way, and what wakes the one who follows it.</summary>
internal sealed class RunningCut(GroupRunRow run, GroupCut cut)
{
    private readonly Channel<bool> _news = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });

    public GroupRunRow Run => run;

    public GroupCut Cut => cut;

    public void Tell() => _news.Writer.TryWrite(true);

    /// <summary>Waits for news, or until something may have lasted too long.</summary>
    public async Task WaitAsync(TimeProvider time, CancellationToken cancellationToken)
    {
        using var wait = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        await using var late = time.CreateTimer(static state => ((CancellationTokenSource)state!).Cancel(), wait, cut.Left, Timeout.InfiniteTimeSpan);
        try
        {
            await _news.Reader.ReadAsync(wait.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // The limit passed.
        }
    }
}

using System.Runtime.CompilerServices;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>Reads that are under way while results of earlier ones are used.</summary>
internal static class ReadAhead
{
    /// <summary>The results in the order of the items.</summary>
    /// <param name="items">What is to be read.</param>
    /// <param name="read">Reads one; may run beside others of its kind.</param>
    /// <param name="ahead">How many are under way beside the result in use.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public static async IAsyncEnumerable<TResult> ReadAheadAsync<TItem, TResult>(
        this IAsyncEnumerable<TItem> items, Func<TItem, ValueTask<TResult>> read, int ahead, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var underWay = new Queue<Task<TResult>>();
        try
        {
            await foreach (var item in items.WithCancellation(cancellationToken))
            {
                underWay.Enqueue(read(item).AsTask());
                if (underWay.Count > ahead)
                {
                    yield return await underWay.Dequeue();
                }
            }
            while (underWay.TryDequeue(out var next))
            {
                yield return await next;
            }
        }
        finally
        {
            // However it ended, nothing uses the store any more.
            await Task.WhenAny(Task.WhenAll(underWay));
        }
    }
}

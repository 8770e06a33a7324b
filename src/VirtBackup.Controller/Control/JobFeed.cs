using System.Runtime.CompilerServices;
using System.Threading.Channels;
using VirtBackup.Catalog;
using VirtBackup.Core;

namespace VirtBackup.Controller.Control;

/// <summary>
/// Tells watchers of a job what it is now. A slow watcher misses states in between, never the last one. Safe for
/// concurrent use.
/// </summary>
internal sealed class JobFeed
{
    private readonly Lock _lock = new();
    private readonly Dictionary<Id16, List<Channel<JobRow>>> _watchers = [];

    public void Publish(JobRow job)
    {
        lock (_lock)
        {
            if (!_watchers.TryGetValue(job.JobId, out var channels))
            {
                return;
            }
            foreach (var channel in channels)
            {
                channel.Writer.TryWrite(job);
                if (job.IsFinal)
                {
                    channel.Writer.TryComplete();
                }
            }
            if (job.IsFinal)
            {
                _watchers.Remove(job.JobId);
            }
        }
    }

    /// <summary>The job as <paramref name="read"/> finds it, then every later state until it is over.</summary>
    public async IAsyncEnumerable<JobRow> WatchAsync(
        Id16 jobId, Func<CancellationToken, ValueTask<JobRow>> read, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var channel = Channel.CreateBounded<JobRow>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropOldest });
        lock (_lock)
        {
            if (!_watchers.TryGetValue(jobId, out var channels))
            {
                _watchers.Add(jobId, channels = []);
            }
            channels.Add(channel);
        }
        try
        {
            // Read after subscribing: what happens in between arrives twice, never not at all.
            var job = await read(cancellationToken);
            yield return job;
            while (!job.IsFinal && await channel.Reader.WaitToReadAsync(cancellationToken))
            {
                while (channel.Reader.TryRead(out var newer))
                {
                    job = newer;
                    yield return job;
                }
            }
        }
        finally
        {
            lock (_lock)
            {
                if (_watchers.TryGetValue(jobId, out var channels) && channels.Remove(channel) && channels.Count == 0)
                {
                    _watchers.Remove(jobId);
                }
            }
        }
    }
}

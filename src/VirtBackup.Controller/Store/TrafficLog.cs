using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using VirtBackup.Core;
using VirtBackup.Repository;

namespace VirtBackup.Controller.Store;

/// <summary>
/// Tells what the provider of the repository's store was asked while something was done: in the log, and in that of a job when
/// it is over. What goes on at the same time is in it. Nothing is told of a store that is not reached over the network. Safe
/// for concurrent use.
/// </summary>
public sealed partial class TrafficLog(BackupRepository repository, ILogger<TrafficLog> logger)
{
    private readonly ConcurrentDictionary<Id16, StoreTraffic> _begun = new();

    /// <summary>From now on it is counted for the job, unless it has begun before; returns what was counted so far.</summary>
    public StoreTraffic? Begin(Id16 job)
    {
        if (repository.Traffic is { } now)
        {
            _ = _begun.TryAdd(job, now);
            return now;
        }
        return null;
    }

    /// <summary>So far.</summary>
    public StoreTraffic? Now => repository.Traffic;

    /// <summary>A line for the job's log; null: nothing was counted for it. It is not counted any more.</summary>
    public string? End(Id16 job) => _begun.TryRemove(job, out var before) && Now?.Since(before) is { } asked
        ? $"The store was asked {asked.Requests} times meanwhile ({asked.Lease} of them for the lease): {asked.BytesSent} bytes sent, {asked.BytesReceived} received."
        : null;

    /// <param name="doing">As in "while <c>recovery point 1 was made</c>".</param>
    /// <param name="before">What was counted when it began.</param>
    public void Tell(string doing, StoreTraffic? before)
    {
        if (before is { } begun && Now?.Since(begun) is { } asked)
        {
            Log(doing, asked.Requests, asked.Writes, asked.Reads, asked.Lookups, asked.Lists, asked.Deletions, asked.Lease, asked.BytesSent, asked.BytesReceived);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "While {Doing}, the store was asked {Requests} times ({Writes} writes, {Reads} reads, {Lookups} look-ups, {Lists} lists, {Deletions} deletions; {Lease} of them for the lease): {Sent} bytes sent, {Received} received.")]
    private partial void Log(string doing, long requests, long writes, long reads, long lookups, long lists, long deletions, long lease, long sent, long received);
}

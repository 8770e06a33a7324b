using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Replication;

/// <summary>
/// Brings everything below a point's roots here that is not here yet: calls for nodes from the roots down, and beside them calls
/// for records, several under way at once so that a long link stays full. What came whole is kept also when it fails. Use an
/// instance once.
/// </summary>
internal sealed class ReplicaFetch
{
    private const int NodeCallsMax = 2;

    public required IReplicaSource Source { get; init; }
    public required Id16 Point { get; init; }

    /// <summary>Of every data record.</summary>
    public required Id16 Scope { get; init; }

    public required IReadOnlyList<ManifestStream> Streams { get; init; }
    public required ReplicaPlan Plan { get; init; }
    public required ReplicaLookup Lookup { get; init; }
    public required ReplicaCounts Counts { get; init; }
    public required IntakeLane MapLane { get; init; }
    public required IntakeLane DataLane { get; init; }
    public required NodeReader NodeReader { get; init; }
    public required NodeBatch NodeBatches { get; init; }
    public required int RecordCallsMax { get; init; }

    /// <summary>Passed by one look into the index at a time, until what it found is noted.</summary>
    public required Gate Looking { get; init; }

    /// <summary>The caller's: a lane does not lose what it holds because another call failed.</summary>
    public required CancellationToken Stopping { get; init; }

    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Malformed"/>: the source sent something else than it was asked for; what the source or the store says.
    /// </exception>
    public async ValueTask RunAsync()
    {
        try
        {
            await RunCallsAsync();
        }
        catch (FaultException)
        {
            await KeepAsync();
            throw;
        }
        await MapLane.FlushAsync(Stopping);
        await DataLane.FlushAsync(Stopping);
    }

    private async ValueTask RunCallsAsync()
    {
        using var stopping = CancellationTokenSource.CreateLinkedTokenSource(Stopping);
        var nodeCalls = new List<Task>();
        var recordCalls = new List<Task>();
        try
        {
            while (true)
            {
                // Before the look at what there is to do: what comes in between is not missed.
                var changed = Plan.Changed;
                StartCalls(nodeCalls, recordCalls, stopping.Token);
                if (nodeCalls.Count == 0 && Plan.HasNoNodes)
                {
                    if (Plan.HasDeferred)
                    {
                        await MapLane.FlushAsync(Stopping);
                        Plan.Reopen();
                        continue;
                    }
                    Counts.SetMapKnown();
                    if (recordCalls.Count == 0)
                    {
                        return;
                    }
                }
                await Task.WhenAny([.. nodeCalls, .. recordCalls, changed]);
                await TakeEndedAsync(nodeCalls);
                await TakeEndedAsync(recordCalls);
            }
        }
        catch
        {
            await stopping.CancelAsync();
            await Task.WhenAll([.. nodeCalls, .. recordCalls]).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
            throw;
        }
    }

    private void StartCalls(List<Task> nodeCalls, List<Task> recordCalls, CancellationToken cancellationToken)
    {
        while (nodeCalls.Count < NodeCallsMax && Plan.TakeNodes(out var entries) is { Count: > 0 } nodes)
        {
            nodeCalls.Add(RunNodesAsync(new NodeCall(this, nodes), entries, cancellationToken));
        }
        while (recordCalls.Count < RecordCallsMax && Plan.TakeMissing(evenFew: nodeCalls.Count == 0 || recordCalls.Count == 0) is { Count: > 0 } chunks)
        {
            recordCalls.Add(new RecordCall(this, chunks).RunAsync(cancellationToken));
        }
    }

    private async Task RunNodesAsync(NodeCall call, int entries, CancellationToken cancellationToken)
    {
        await call.RunAsync(cancellationToken);
        Plan.EndNodes(entries);
    }

    private static async ValueTask TakeEndedAsync(List<Task> calls)
    {
        for (var i = calls.Count - 1; i >= 0; i--)
        {
            if (calls[i].IsCompleted)
            {
                await calls[i];
                calls.RemoveAt(i);
            }
        }
    }

    /// <summary>Whoever runs again need not ask for what came whole.</summary>
    private async ValueTask KeepAsync()
    {
        foreach (var lane in new[] { MapLane, DataLane })
        {
            try
            {
                await lane.FlushAsync(Stopping);
            }
            catch (FaultException)
            {
                // Then it is asked for again.
            }
        }
    }
}

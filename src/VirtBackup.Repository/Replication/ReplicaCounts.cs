namespace VirtBackup.Repository.Replication;

/// <summary>Counts what a pull receives, and tells. Safe for concurrent use.</summary>
internal sealed class ReplicaCounts(IProgress<ReplicaProgress>? progress)
{
    private readonly Lock _sync = new();
    private ReplicaProgress _done;

    public ReplicaProgress Done
    {
        get
        {
            lock (_sync)
            {
                return _done;
            }
        }
    }

    public void AddReceived(long bytes)
    {
        lock (_sync)
        {
            _done = _done with { ReceivedBytes = _done.ReceivedBytes + bytes };
        }
    }

    public void AddNode() => Tell(static (done, _) => done with { Nodes = done.Nodes + 1 }, 0);

    public void AddMissing(long bytes) => Tell(static (done, more) => done with { MissingBytes = done.MissingBytes + more }, bytes);

    public void AddRecord(int rawLength) => Tell(static (done, more) => done with { Records = done.Records + 1, FetchedBytes = done.FetchedBytes + more }, rawLength);

    public void SetMapKnown()
    {
        if (!Done.IsMapKnown)
        {
            Tell(static (done, _) => done with { IsMapKnown = true }, 0);
        }
    }

    private void Tell(Func<ReplicaProgress, long, ReplicaProgress> change, long by)
    {
        ReplicaProgress done;
        lock (_sync)
        {
            done = _done = change(_done, by);
        }
        progress?.Report(done);
    }
}

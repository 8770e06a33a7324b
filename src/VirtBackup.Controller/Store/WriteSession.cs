using VirtBackup.Core;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Ingest;

namespace VirtBackup.Controller.Store;

/// <summary>One agent's run of writing: what it was told at its beginning, its lanes, its lease. Safe for concurrent use.</summary>
internal sealed class WriteSession : IAsyncDisposable
{
    /// <summary>Bytes that an agent may send past the durable offset.</summary>
    public const long DataCreditBytes = 128L << 20;

    /// <inheritdoc cref="DataCreditBytes"/>
    public const long MapCreditBytes = 32L << 20;

    private readonly CancellationTokenSource _end = new();
    private readonly TimeProvider _time;
    private readonly BeginSessionResponse _welcome;
    private long _usedAt;
    private int _disposed;
    private int _streams;

    public WriteSession(Id16 id, Id16 jobId, string agent, string requestId, CommitExpectation expectation, IngestSession ingest, BeginSessionResponse welcome, TimeProvider time)
    {
        Id = id;
        JobId = jobId;
        Agent = agent;
        RequestId = requestId;
        Expectation = expectation;
        Ingest = ingest;
        _welcome = welcome;
        _time = time;
        _usedAt = time.GetTimestamp();
        Ended = _end.Token;
        Lanes =
        [
            new SessionLane(0, ingest.OpenLane(Format.Records.RecordKind.Data), DataCreditBytes),
            new SessionLane(1, ingest.OpenLane(Format.Records.RecordKind.Map), MapCreditBytes),
        ];
    }

    public Id16 Id { get; }

    public Id16 JobId { get; }

    public string Agent { get; }

    /// <summary>Of the call that opened it.</summary>
    public string RequestId { get; }

    /// <summary>What the manifest must say.</summary>
    public CommitExpectation Expectation { get; }

    public IngestSession Ingest { get; }

    public IReadOnlyList<SessionLane> Lanes { get; }

    /// <summary>One commit at a time.</summary>
    public SemaphoreSlim Committing { get; } = new(1, 1);

    /// <summary>Its point is committed.</summary>
    public bool IsCommitted { get; set; }

    /// <summary>What the store had been asked when the session began; null: not over the network.</summary>
    public StoreTraffic? TrafficBefore { get; init; }

    /// <summary>Cancelled when the session is over.</summary>
    public CancellationToken Ended { get; }

    /// <summary>How long ago the last call was.</summary>
    public TimeSpan Idle => Volatile.Read(ref _streams) > 0 ? TimeSpan.Zero : _time.GetElapsedTime(Interlocked.Read(ref _usedAt));

    /// <summary>An upload stream is open: the agent is there, even if it has nothing to send for long.</summary>
    public void EnterStream() => Interlocked.Increment(ref _streams);

    public void LeaveStream()
    {
        Touch();
        Interlocked.Decrement(ref _streams);
    }

    /// <summary>Notes that the agent is still there.</summary>
    public void Touch() => Interlocked.Exchange(ref _usedAt, _time.GetTimestamp());

    /// <summary>What the agent is told, with the lanes as they stand now.</summary>
    public BeginSessionResponse Welcome()
    {
        var welcome = _welcome.Clone();
        welcome.Lanes.Clear();
        welcome.Lanes.Add(Lanes.Select(static lane => lane.State));
        return welcome;
    }

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }
        await _end.CancelAsync();
        foreach (var lane in Lanes)
        {
            lane.EndStream();
        }
        // A commit that is under way is not cut off between its manifest and its row.
        await Committing.WaitAsync();
        Committing.Release();
        foreach (var lane in Lanes)
        {
            await lane.DisposeAsync();
        }
        await Ingest.DisposeAsync();
        _end.Dispose();
    }
}

using VirtBackup.Core;

namespace VirtBackup.Controller.Replication;

/// <summary>What is known of a peer's runs since the controller's start. Safe for concurrent use.</summary>
internal sealed class ReplicationState
{
    private readonly Lock _lock = new();
    private ReplicationRun? _run;
    private TimeProvider? _time;
    private long _began;
    private Id16 _jobId;
    private volatile bool _isRunning;
    private volatile string _problem = "";
    private long _nextMs = -1;

    /// <summary>Of the newest run; empty: none yet.</summary>
    public Id16 JobId
    {
        get
        {
            lock (_lock)
            {
                return _jobId;
            }
        }
    }

    public bool IsRunning => _isRunning;

    /// <summary>Why the newest run failed; empty: it did not.</summary>
    public string Problem => _problem;

    /// <summary>When the next run is due, Unix milliseconds; null: it waits for news, or nothing starts by itself.</summary>
    public long? NextMs
    {
        get => Interlocked.Read(ref _nextMs) is >= 0 and var next ? next : null;
        set => Interlocked.Exchange(ref _nextMs, value ?? -1);
    }

    /// <summary>Of the run under way.</summary>
    public long BytesPerSecond
    {
        get
        {
            lock (_lock)
            {
                return _run is null || _time is null ? 0 : (long)(_run.BytesReceived / Math.Max(0.1, _time.GetElapsedTime(_began).TotalSeconds));
            }
        }
    }

    public void Begin(Id16 jobId)
    {
        lock (_lock)
        {
            _jobId = jobId;
        }
        _isRunning = true;
    }

    public void Watch(ReplicationRun run, TimeProvider time)
    {
        lock (_lock)
        {
            (_run, _time, _began) = (run, time, time.GetTimestamp());
        }
    }

    public void End(string problem) => _problem = problem;

    public void End()
    {
        lock (_lock)
        {
            (_run, _isRunning) = (null, false);
        }
    }
}

using System.Text;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Flow;

/// <summary>Counters of one run, written by its loops and read by whoever reports. Safe for concurrent use.</summary>
public sealed class RunProgress
{
    private const int LogBytesMax = 16 << 10;
    private readonly Lock _gate = new();
    private readonly List<string> _log = [];
    private long _bytesTotal;
    private long _bytesDone;
    private long _bytesSent;
    private long _chunksNew;
    private long _chunksKnown;
    private long _chunksZero;
    private long _bytesAudited;
    private long _auditMisses;

    /// <summary>What the run is doing, for people.</summary>
    public string Phase { get; private set; } = "starting";

    /// <summary>What the time of a restore depends on, once it is known.</summary>
    public RestoreSurvey? Survey { get; private set; }

    /// <summary>Of a restore whose start waits for others.</summary>
    public StartStage StartStage { get; private set; }

    /// <summary>Told of news that should be reported before the next regular report.</summary>
    public Action? HasNews { get; set; }

    /// <summary>Bytes read (backup) or written (restore) so far.</summary>
    public long BytesDone => Interlocked.Read(ref _bytesDone);

    public long BytesSent => Interlocked.Read(ref _bytesSent);

    public void Enter(string phase)
    {
        Phase = phase;
        Log(phase);
    }

    /// <summary>Enters a phase that others wait for.</summary>
    public void Reach(StartStage stage, string phase)
    {
        StartStage = stage;
        Enter(phase);
        HasNews?.Invoke();
    }

    public void Tell(RestoreSurvey survey)
    {
        Survey = survey;
        HasNews?.Invoke();
    }

    public void AddTotal(long bytes) => Interlocked.Add(ref _bytesTotal, bytes);

    public void AddDone(long bytes) => Interlocked.Add(ref _bytesDone, bytes);

    public void AddSent(long bytes) => Interlocked.Add(ref _bytesSent, bytes);

    public void CountNew() => Interlocked.Increment(ref _chunksNew);

    public void CountKnown(int chunks = 1) => Interlocked.Add(ref _chunksKnown, chunks);

    /// <summary>Read again although it was called unchanged; not in <see cref="BytesDone"/>.</summary>
    public void AddAudited(long bytes) => Interlocked.Add(ref _bytesAudited, bytes);

    /// <summary>Chunks had changed that were called unchanged.</summary>
    public void CountMisses(long chunks) => Interlocked.Add(ref _auditMisses, chunks);

    public void CountZero() => Interlocked.Increment(ref _chunksZero);

    /// <summary>Adds a line to the job's log; the oldest unsent lines give way after 1,000.</summary>
    public void Log(string line)
    {
        lock (_gate)
        {
            if (_log.Count >= 1000)
            {
                _log.RemoveAt(0);
            }
            _log.Add(line.Length <= 1024 ? line : line[..1024]);
        }
    }

    /// <summary>Takes lines added since the last call, at most 32 and some 16 KiB of them, so that a report stays small.</summary>
    public IReadOnlyList<string> TakeLog()
    {
        lock (_gate)
        {
            var bytes = 0;
            var lines = _log.Take(32).TakeWhile(line => (bytes += Encoding.UTF8.GetByteCount(line)) <= LogBytesMax).ToArray();
            _log.RemoveRange(0, lines.Length);
            return lines;
        }
    }

    public Progress ToMessage() => new()
    {
        Phase = Phase,
        BytesTotal = (ulong)Interlocked.Read(ref _bytesTotal),
        BytesDone = (ulong)BytesDone,
        BytesSent = (ulong)BytesSent,
        ChunksNew = (ulong)Interlocked.Read(ref _chunksNew),
        ChunksKnown = (ulong)Interlocked.Read(ref _chunksKnown),
        ChunksZero = (ulong)Interlocked.Read(ref _chunksZero),
        BytesAudited = (ulong)Interlocked.Read(ref _bytesAudited),
        AuditMisses = (ulong)Interlocked.Read(ref _auditMisses),
        StartStage = StartStage,
    };
}

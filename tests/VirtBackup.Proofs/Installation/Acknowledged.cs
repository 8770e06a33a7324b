using VirtBackup.Core;
using VirtBackup.Format.Records;
using VirtBackup.Proofs.Simulation;

namespace VirtBackup.Proofs.Installation;

/// <summary>A record whose last byte was acknowledged, and when its last byte was first sent, Unix milliseconds.</summary>
internal readonly record struct AcknowledgedRecord(RecordHeader Header, string Session, long SentMs);

/// <summary>Everything that the controller has acknowledged to the agent, as the agent saw it.</summary>
/// <param name="calendar">When that was.</param>
/// <param name="keepsRecords">Whether the records, too, are remembered.</param>
internal sealed class Acknowledged(Calendar calendar, bool keepsRecords)
{
    private readonly Dictionary<(string Session, uint Lane), LaneLog> _lanes = [];
    private readonly Dictionary<string, (string Job, Power Life)> _open = [];
    private readonly HashSet<RecordHeader> _damaged = [];

    /// <summary>Manifests of commits that were answered, by point.</summary>
    public Dictionary<Id16, byte[]> Commits { get; } = [];

    /// <summary>Points that the controller has said are committed, in whatever way.</summary>
    public HashSet<Id16> Points { get; } = [];

    /// <summary>Key objects that were taken.</summary>
    public List<byte[]> Keys { get; } = [];

    /// <summary>Sessions that were opened or resumed.</summary>
    public long Sessions { get; set; }

    /// <summary>Bytes that travelled, whether or not they were acknowledged.</summary>
    public long BytesSent { get; private set; }

    /// <summary>A session was opened or resumed: the only one of its job.</summary>
    public void Opened(string session, string job, Power life)
    {
        foreach (var former in _open.Where(open => open.Value.Job == job).Select(open => open.Key).ToList())
        {
            _open.Remove(former);
        }
        _open[session] = (job, life);
        Sessions++;
    }

    /// <summary>The session may be over; all of the agent without a name.</summary>
    public void MayBeOver(string? session = null)
    {
        if (session is null)
        {
            _open.Clear();
        }
        else
        {
            _open.Remove(session);
        }
    }

    /// <summary>Whether the session was open when that life of the controller ended.</summary>
    public bool IsOpen(string session, Power life) => _open.TryGetValue(session, out var open) && ReferenceEquals(open.Life, life);

    public void Sent(string session, uint lane, long offset, ReadOnlySpan<byte> data)
    {
        BytesSent += data.Length;
        if (!keepsRecords)
        {
            return;
        }
        var log = LaneOf(session, lane);
        log.Bytes.Position = offset;
        log.Bytes.Write(data);
        log.NoteSent(calendar.NowMs);
    }

    public void Durable(string session, uint lane, long offset)
    {
        if (!keepsRecords)
        {
            return;
        }
        var log = LaneOf(session, lane);
        log.Durable = Math.Max(log.Durable, offset);
    }

    public long LengthOf(string session, uint lane) => LaneOf(session, lane).Bytes.Length;

    /// <summary>The device has damaged these: what no point needs may be gone.</summary>
    public void Excuse(IEnumerable<RecordHeader> records) => _damaged.UnionWith(records);

    /// <summary>All records whose last byte was acknowledged, and that need not be gone.</summary>
    public IEnumerable<AcknowledgedRecord> Records()
    {
        foreach (var ((session, _), lane) in _lanes)
        {
            var bytes = lane.Bytes.GetBuffer();
            for (var at = 0; at + RecordHeader.Size <= lane.Durable;)
            {
                var header = RecordHeader.Parse(bytes.AsSpan(at));
                at += header.RecordLength;
                if (at <= lane.Durable && !_damaged.Contains(header))
                {
                    yield return new AcknowledgedRecord(header, session, lane.SentMs(at));
                }
            }
        }
    }

    private LaneLog LaneOf(string session, uint lane)
    {
        if (!_lanes.TryGetValue((session, lane), out var log))
        {
            _lanes.Add((session, lane), log = new LaneLog());
        }
        return log;
    }

    private sealed class LaneLog
    {
        private readonly List<(long End, long Ms)> _sent = [];

        public MemoryStream Bytes { get; } = new();

        public long Durable { get; set; }

        public void NoteSent(long nowMs)
        {
            if (_sent.Count == 0 || _sent[^1].End < Bytes.Length)
            {
                _sent.Add((Bytes.Length, nowMs));
            }
        }

        /// <summary>When the byte before that offset was first sent.</summary>
        public long SentMs(long offset) => _sent.Find(sent => sent.End >= offset).Ms;
    }
}

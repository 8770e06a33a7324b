using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Proofs.Installation;

/// <summary>Everything that the controller has acknowledged to the agent, as the agent saw it.</summary>
internal sealed class Acknowledged
{
    private readonly Dictionary<(string Session, uint Lane), LaneLog> _lanes = [];

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

    public void Sent(string session, uint lane, long offset, ReadOnlySpan<byte> data)
    {
        var bytes = LaneOf(session, lane).Bytes;
        bytes.Position = offset;
        bytes.Write(data);
        BytesSent += data.Length;
    }

    public void Durable(string session, uint lane, long offset)
    {
        var log = LaneOf(session, lane);
        log.Durable = Math.Max(log.Durable, offset);
    }

    public long LengthOf(string session, uint lane) => LaneOf(session, lane).Bytes.Length;

    /// <summary>Headers of all records whose last byte was acknowledged.</summary>
    public IEnumerable<RecordHeader> Records()
    {
        foreach (var lane in _lanes.Values)
        {
            var bytes = lane.Bytes.ToArray();
            for (var at = 0; at + RecordHeader.Size <= lane.Durable;)
            {
                var header = RecordHeader.Parse(bytes.AsSpan(at));
                at += header.RecordLength;
                if (at <= lane.Durable)
                {
                    yield return header;
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
        public MemoryStream Bytes { get; } = new();

        public long Durable { get; set; }
    }
}

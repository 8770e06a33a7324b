using VirtBackup.Core;

namespace VirtBackup.Agent.Tests.Fakes;

/// <summary>What goes wrong, and when.</summary>
internal sealed class FakeFaults
{
    private readonly Queue<long> _uploadBreaks = new();
    private int _unavailable;

    public long CreditBytes { get; set; } = 128 << 20;

    /// <summary>A lane is made durable at this many bytes, otherwise on a flush only.</summary>
    public long DurableAtBytes { get; set; } = 64 << 20;

    /// <summary>How often uploads asked for what is not durable yet.</summary>
    public int FlushesAsked { get; set; }

    /// <summary>What a breaking stream had taken becomes durable, but nobody hears of it.</summary>
    public bool LoseAcks { get; set; }

    /// <summary>Breaking a stream is a restart of the controller.</summary>
    public bool ForgetOnBreak { get; set; }

    /// <summary>Nodes are read without a committed point.</summary>
    public bool AnyPoint { get; set; }

    public int CommitAnswersLost { get; set; }

    /// <summary>Asked for points, it knows none: as if their commits were still under way.</summary>
    public bool IsUnaware { get; set; }

    public Action? OnCommit { get; set; }

    /// <summary>Called when a session's answer is on its way.</summary>
    public Action? OnBegun { get; set; }

    public Func<byte[], byte[]> ManifestTamper { get; set; } = bytes => bytes;
    public Func<byte[], byte[]> GrantTamper { get; set; } = bytes => bytes;
    public Func<byte[], byte[]> NodeTamper { get; set; } = bytes => bytes;
    public Func<byte[], byte[]> RecordTamper { get; set; } = bytes => bytes;
    public Func<IReadOnlyList<Id32>, IReadOnlyCollection<Id32>, IEnumerable<Id32>> RecordList { get; set; } = (wanted, _) => wanted;

    /// <summary>Streams of records break before this one.</summary>
    public int ReadBreakAfter { get; set; } = -1;
    public int ReadBreaks { get; set; }

    public static FaultException Unavailable() => new(FaultReason.Unavailable, "The link broke.");

    public void BreakUploads(IEnumerable<long> afterBytes)
    {
        foreach (var bytes in afterBytes)
        {
            _uploadBreaks.Enqueue(bytes);
        }
    }

    public void FailCalls(int count) => Interlocked.Exchange(ref _unavailable, count);

    public long NextUploadBreak()
    {
        lock (_uploadBreaks)
        {
            return _uploadBreaks.TryDequeue(out var bytes) ? bytes : long.MaxValue;
        }
    }

    public void Enter()
    {
        if (Interlocked.Decrement(ref _unavailable) >= 0)
        {
            throw Unavailable();
        }
        Interlocked.Exchange(ref _unavailable, 0);
    }
}

using System.Threading.Channels;
using VirtBackup.Core;

namespace VirtBackup.Controller.Control;

/// <summary>One control stream of an agent. Safe for concurrent use.</summary>
public sealed class AgentConnection : IDisposable
{
    // One place that is overwritten: "something changed" is a level, however often it happens.
    private readonly Channel<bool> _changed = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
    private readonly CancellationTokenSource _end;
    private FaultException? _reason;

    internal AgentConnection(string agent, CancellationToken cancellationToken)
    {
        Agent = agent;
        _end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Ended = _end.Token;
    }

    public string Agent { get; }

    /// <summary>Cancelled when the stream must end, for whatever reason.</summary>
    public CancellationToken Ended { get; }

    /// <summary>Why it was ended from this side; null: the agent or the network ended it.</summary>
    public FaultException? Reason => Volatile.Read(ref _reason);

    /// <summary>Set when the controller stops: the agent is told to come back later.</summary>
    public bool IsGoingAway { get; private set; }

    /// <summary>Null before its hello.</summary>
    internal AgentAbilities? Abilities { get; set; }

    /// <summary>What came of an inventory so far; for the reading loop only.</summary>
    internal InventoryParts Inventory { get; } = new();

    /// <summary>The desired state changed: the newest will be sent.</summary>
    public void Nudge() => _changed.Writer.TryWrite(true);

    public void GoAway()
    {
        IsGoingAway = true;
        _changed.Writer.TryComplete();
    }

    /// <summary>Nothing more is to be sent.</summary>
    internal void Finish() => _changed.Writer.TryComplete();

    public void End(FaultException reason)
    {
        if (Interlocked.CompareExchange(ref _reason, reason, null) is null)
        {
            try
            {
                _end.Cancel();
            }
            catch (ObjectDisposedException)
            {
                // It ended by itself meanwhile.
            }
        }
    }

    public void Dispose() => _end.Dispose();

    /// <summary>Waits for a nudge; false: the controller stops.</summary>
    internal async ValueTask<bool> WaitForChangeAsync()
    {
        while (await _changed.Reader.WaitToReadAsync(Ended))
        {
            if (_changed.Reader.TryRead(out _))
            {
                return true;
            }
        }
        return false;
    }
}

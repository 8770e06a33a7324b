using VirtBackup.Core;

namespace VirtBackup.Controller.Control;

/// <summary>The control streams that are open: one for each agent, the newest wins. Safe for concurrent use.</summary>
public sealed class AgentConnections
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, AgentConnection> _byAgent = new(StringComparer.Ordinal);
    private TaskCompletionSource? _emptied;
    private bool _goingAway;

    /// <summary>Told, outside of all locks, when an agent's stream has ended and no newer one has taken its place. Set once, before the first stream.</summary>
    public Action<string>? Closed { get; set; }

    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _byAgent.Count;
            }
        }
    }

    public bool IsConnected(string agent)
    {
        lock (_lock)
        {
            return _byAgent.ContainsKey(agent);
        }
    }

    /// <summary>What the agent that is connected now can be asked for; null: it is not connected.</summary>
    internal AgentAbilities? FindAbilities(string agent)
    {
        lock (_lock)
        {
            return _byAgent.GetValueOrDefault(agent)?.Abilities;
        }
    }

    /// <summary>Tells the agent's stream, if there is one, that its assignments changed.</summary>
    public void Nudge(string agent)
    {
        lock (_lock)
        {
            _byAgent.GetValueOrDefault(agent)?.Nudge();
        }
    }

    /// <summary>Ends the agent's stream at once.</summary>
    public void End(string agent, FaultException reason)
    {
        AgentConnection? connection;
        lock (_lock)
        {
            connection = _byAgent.GetValueOrDefault(agent);
        }
        connection?.End(reason);
    }

    /// <summary>Tells every agent that the controller stops, and waits until the streams are closed.</summary>
    public async ValueTask GoAwayAsync(CancellationToken cancellationToken)
    {
        Task emptied;
        lock (_lock)
        {
            _goingAway = true;
            if (_byAgent.Count == 0)
            {
                return;
            }
            _emptied ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            emptied = _emptied.Task;
            foreach (var connection in _byAgent.Values)
            {
                connection.GoAway();
            }
        }
        await emptied.WaitAsync(cancellationToken);
    }

    internal void Open(AgentConnection connection)
    {
        AgentConnection? older;
        lock (_lock)
        {
            if (_goingAway)
            {
                throw new FaultException(FaultReason.Unavailable, "The controller is stopping: connect again in a moment.");
            }
            older = _byAgent.GetValueOrDefault(connection.Agent);
            _byAgent[connection.Agent] = connection;
        }
        older?.End(new FaultException(FaultReason.Fenced, $"A newer connection of agent '{connection.Agent}' took over."));
    }

    internal void Close(AgentConnection connection)
    {
        var isGone = false;
        lock (_lock)
        {
            if (_byAgent.GetValueOrDefault(connection.Agent) == connection)
            {
                isGone = _byAgent.Remove(connection.Agent);
            }
            if (_byAgent.Count == 0)
            {
                _emptied?.TrySetResult();
            }
        }
        if (isGone)
        {
            Closed?.Invoke(connection.Agent);
        }
    }
}

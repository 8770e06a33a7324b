using VirtBackup.Core;

namespace VirtBackup.Agent.State;

/// <summary>
/// Which folders restores are writing to, known after the agent was killed too: what such a restore has left is removed when
/// the agent starts again. Safe for concurrent use.
/// </summary>
public interface IRestoreNotes
{
    /// <summary>Durable when this returns. Does nothing when the folder is noted already.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.DeviceFull"/>: it cannot be written.</exception>
    void Add(string folder);

    /// <summary>The restore is over, or what it left is gone. A note that cannot be removed is found again.</summary>
    void Remove(string folder);

    /// <summary>In no order.</summary>
    IReadOnlyList<string> List();
}

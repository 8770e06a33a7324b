namespace VirtBackup.Hypervisors;

/// <summary>
/// Where machines that are cut at one instant wait for each other. A driver passes the steps in their order, each once; every wait may
/// throw (another machine failed, or was late), and then the guest goes on and the capture fails. Between <see cref="FrozenAsync"/> and
/// the end of <see cref="CutAsync"/> the guest stands still: its processors are stopped, whether or not its file systems are frozen, so
/// that nothing of it (raw disks, memory, messages to others) comes from behind that instant. A machine that is off, and whose disks
/// are locked, passes through.
/// </summary>
public interface ICutGate
{
    /// <summary>All that can be done without touching the guest is done. May last minutes.</summary>
    ValueTask ReadyAsync(CancellationToken cancellationToken);

    /// <summary>The hook before the freeze has ended, if there is one. Lasts as long as the hooks of the others.</summary>
    ValueTask PreparedAsync(CancellationToken cancellationToken);

    /// <summary>The guest stands still; the cut follows. Seconds at most: the guest waits.</summary>
    ValueTask FrozenAsync(CancellationToken cancellationToken);

    /// <summary>The cut is made, and the guest still stands still; going on follows. Seconds at most.</summary>
    ValueTask CutAsync(CancellationToken cancellationToken);

    /// <summary>The guest goes on. Quick; does not throw.</summary>
    /// <param name="held">It stood still from before <see cref="FrozenAsync"/> until behind <see cref="CutAsync"/>: nobody let it go on meanwhile.</param>
    void Released(bool held);
}

/// <summary>For machines that need not be held.</summary>
internal static class CutGates
{
    /// <summary>All steps, for a machine that is off and whose disks are locked by now.</summary>
    public static async Task PassThroughAsync(this ICutGate gate, CancellationToken cancellationToken)
    {
        await gate.ReadyAsync(cancellationToken);
        await gate.PreparedAsync(cancellationToken);
        await gate.FrozenAsync(cancellationToken);
        await gate.CutAsync(cancellationToken);
        gate.Released(held: true);
    }
}

using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Guests;

/// <summary>A guest that is about to be frozen or stopped, so described that another process can let it go on.</summary>
/// <param name="Kind">The driver's: whose <see cref="IGuestRelease"/> knows how.</param>
/// <param name="Folder">Where the driver marks what it has done to the guest (<see cref="FreezeMarks"/>).</param>
/// <param name="Addresses">What the driver reaches the guest by, such as paths of sockets or a connection's URI.</param>
public sealed record FreezeTarget(string Kind, Id16 Machine, string Name, string Folder, IReadOnlyDictionary<string, string> Addresses);

/// <summary>
/// Watches, from outside this process, over guests that are frozen or stopped for their cut: when this process dies, or takes
/// too long, the guard lets the guest go on. Safe for concurrent use.
/// </summary>
public interface IFreezeGuard
{
    /// <summary>Called before the guest is touched.</summary>
    /// <param name="limit">How long from now the guard waits before it acts by itself.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Unavailable"/>: nobody would watch; the guest must not be touched.</exception>
    ValueTask<IFreezeLease> ArmAsync(FreezeTarget target, TimeSpan limit, CancellationToken cancellationToken);
}

/// <summary>One guest under watch. Disposing without <see cref="DisarmAsync"/> makes the guard let the guest go on at once.</summary>
public interface IFreezeLease : IAsyncDisposable
{
    /// <summary>A new limit, from now. Never throws: a guard that is gone is told by <see cref="DisarmAsync"/>.</summary>
    ValueTask RenewAsync(TimeSpan limit, CancellationToken cancellationToken);

    /// <summary>The guest goes on by this process's doing: there is nothing more to watch.</summary>
    /// <returns>False: the guard has let the guest go on before, so that the freeze did not hold.</returns>
    ValueTask<bool> DisarmAsync();
}

/// <summary>How a try to let a guest go on ended.</summary>
public enum ReleaseOutcome
{
    /// <summary>It runs and is thawed, or there is no such guest any more.</summary>
    Released,
    /// <summary>Not yet: its agent or its monitor does not answer, or is in other hands.</summary>
    Again,
}

/// <summary>A driver's way to let a guest go on that another process froze or stopped. May be repeated.</summary>
public interface IGuestRelease
{
    /// <summary>The <see cref="FreezeTarget.Kind"/> that it knows.</summary>
    string Kind { get; }

    /// <summary>A process that still holds the guest keeps this from working, and has to be ended when it hangs.</summary>
    bool NeedsHolderGone { get; }

    /// <summary>One try; it ends within some 20 s and never throws for the guest's sake.</summary>
    ValueTask<ReleaseOutcome> TryReleaseAsync(FreezeTarget target, Action<string> log, CancellationToken cancellationToken);
}

using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Guests;

/// <summary>A program that the guest agent runs inside the guest.</summary>
/// <param name="Words">Absolute path of the program in the guest, then its arguments.</param>
/// <param name="TimeLimit">How long it is waited for. A program that is late is not ended: it goes on in the guest.</param>
public sealed record GuestCommand(IReadOnlyList<string> Words, TimeSpan TimeLimit)
{
    /// <summary>Words of a command at most.</summary>
    public const int WordsMax = 64;
}

/// <summary>What is run inside a guest around its cut. After the thaw always runs when before the freeze was begun.</summary>
/// <param name="BeforeFreeze">Brings applications into a state that a backup may hold; null: nothing is run.</param>
/// <param name="AfterThaw">Lets applications go on.</param>
/// <param name="AbortOnFailure">A failing <paramref name="BeforeFreeze"/> ends the capture; otherwise it costs the level of consistency.</param>
public sealed record GuestHooks(GuestCommand? BeforeFreeze, GuestCommand? AfterThaw, bool AbortOnFailure)
{
    public static GuestHooks None { get; } = new(null, null, false);
}

/// <summary>A guest agent, however it is reached. Not safe for concurrent use.</summary>
internal interface IGuestAgent : IAsyncDisposable
{
    /// <summary>Runs a command of the agent (QEMU docs/interop/qemu-ga-ref) and returns its result.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.HypervisorUnavailable"/>: no answer in time; <see cref="FaultReason.FailedPrecondition"/>: the agent refused.
    /// </exception>
    Task<System.Text.Json.JsonElement> ExecuteAsync(string command, System.Text.Json.Nodes.JsonObject? arguments, TimeSpan timeout, CancellationToken cancellationToken);

    /// <summary>Freezes all file systems.</summary>
    /// <returns>How many were frozen.</returns>
    Task<long> FreezeAsync(TimeSpan timeout, CancellationToken cancellationToken);

    /// <summary>Thaws what was frozen; harmless when nothing is.</summary>
    /// <returns>How many were thawed by the answered request.</returns>
    Task<long> ThawAsync(TimeSpan timeout, CancellationToken cancellationToken);

    /// <summary>Sends a thaw and waits for no answer.</summary>
    Task AskToThawAsync(CancellationToken cancellationToken);
}

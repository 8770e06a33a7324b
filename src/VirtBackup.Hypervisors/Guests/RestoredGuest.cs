using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Guests;

/// <summary>The guest of a machine that a restore has started. One caller at a time.</summary>
public interface IRestoredGuest
{
    /// <summary>Whether the guest's agent answers within the limit.</summary>
    ValueTask<bool> AnswersAsync(TimeSpan limit, CancellationToken cancellationToken);

    /// <summary>Runs a program in the guest by its agent; what it says is logged under the name.</summary>
    /// <returns>Null: it ended with exit code 0. Otherwise why it counts as failed.</returns>
    ValueTask<string?> RunAsync(GuestCommand command, string name, Action<string> log, CancellationToken cancellationToken);
}

/// <summary>Reaches the guest by its agent, connecting anew each time: the channel is left free in between.</summary>
internal sealed class RestoredGuest(Func<TimeSpan, CancellationToken, Task<IGuestAgent>> connect, TimeProvider time) : IRestoredGuest
{
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);

    public async ValueTask<bool> AnswersAsync(TimeSpan limit, CancellationToken cancellationToken)
    {
        try
        {
            await using var agent = await connect(limit, cancellationToken);
            await agent.ExecuteAsync("guest-ping", null, limit, cancellationToken);
            return true;
        }
        catch (FaultException)
        {
            return false;
        }
    }

    public async ValueTask<string?> RunAsync(GuestCommand command, string name, Action<string> log, CancellationToken cancellationToken)
    {
        try
        {
            await using var agent = await connect(ConnectTimeout, cancellationToken);
            return await GuestHookRun.RunAsync(agent, command, name, time, log, cancellationToken);
        }
        catch (FaultException fault)
        {
            return $"could not be run: {fault.Message}";
        }
    }
}

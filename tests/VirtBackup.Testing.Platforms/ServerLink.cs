using VirtBackup.Core;

namespace VirtBackup.Testing.Platforms;

/// <summary>
/// One driver's way to its server: the place where what goes wrong is planned. Calls are counted from 1. When the driver's
/// process "is killed", this call and all later ones fail, so that the driver cannot clean up either: what it had done stays
/// on the server. Safe for concurrent use.
/// </summary>
public sealed class ServerLink
{
    private readonly Lock gate = new();
    private bool dead;

    /// <summary>Calls made so far.</summary>
    public int Calls { get; private set; }

    /// <summary>The driver is killed at this call; null: never.</summary>
    public int? DiesAt { get; init; }

    /// <summary>The server has done what the last call asked for.</summary>
    public bool DiesAfterEffect { get; init; }

    public bool HasDied => dead;

    /// <summary>Called before every call, with its name and number.</summary>
    public Action<string, int>? OnCall { get; set; }

    /// <summary>What a call answers instead of doing its work, or null.</summary>
    public Func<string, int, FaultException?>? Refusal { get; set; }

    /// <summary>The answer is lost, though the work is done.</summary>
    public Func<string, int, FaultException?>? LostAnswer { get; set; }

    /// <exception cref="FaultException">What the server, the plan or the lost link said.</exception>
    public async ValueTask<T> CallAsync<T>(string operation, Func<T> work, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(work);
        await Task.Yield();
        lock (gate)
        {
            OnCall?.Invoke(operation, Calls + 1);
            cancellationToken.ThrowIfCancellationRequested();
            RequireAlive();
            var number = ++Calls;
            if (Refusal?.Invoke(operation, number) is { } refusal)
            {
                throw refusal;
            }
            if (number == DiesAt)
            {
                dead = true;
                if (DiesAfterEffect)
                {
                    work();
                }
                RequireAlive();
            }
            var result = work();
            return LostAnswer?.Invoke(operation, number) is { } lost ? throw lost : result;
        }
    }

    /// <summary>A call that returns nothing.</summary>
    public async ValueTask CallAsync(string operation, Action work, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(work);
        await CallAsync(operation, () =>
        {
            work();
            return true;
        }, cancellationToken);
    }

    private void RequireAlive()
    {
        if (dead)
        {
            throw new FaultException(FaultReason.HypervisorUnavailable, "The connection to the server is lost: the driver was killed.");
        }
    }
}

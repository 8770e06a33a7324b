using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.Simulation;

/// <summary>
/// The power of one life of the controller's machine. When it is off, its store and databases are too. It can fail before
/// every changing operation of the store, and before and behind every transaction that writes.
/// </summary>
internal sealed class Power
{
    private readonly TaskCompletionSource _wentOff = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _off = new();
    private readonly SynchronizationContext? _thread = SynchronizationContext.Current;

    /// <summary>The operation before which the power fails; null: never.</summary>
    public long? FailsAt { get; set; }

    /// <summary>Asked before every operation whether the power fails before it.</summary>
    public Func<bool>? FailsWhen { get; set; }

    /// <summary>Operations so far: the index of the next one.</summary>
    public long Operations { get; private set; }

    /// <summary>Transactions that wrote.</summary>
    public long Transactions { get; private set; }

    /// <summary>Called before every operation that happens.</summary>
    public Action? Passed { get; init; }

    /// <summary>Called when the power fails before an operation.</summary>
    public Action? Failed { get; init; }

    public bool IsOff { get; private set; }

    /// <summary>Completes when the power has failed.</summary>
    public Task WentOff => _wentOff.Task;

    /// <summary>Cancelled soon after the power has failed: connections break.</summary>
    public CancellationToken Off => _off.Token;

    /// <summary>For <see cref="SimulatedStoreOptions.Inject"/>.</summary>
    public FaultReason? Before(SimulatedOperation operation)
    {
        if (operation.Step == SimulatedStep.Read)
        {
            Require();
        }
        else
        {
            Pass();
        }
        return null;
    }

    public void TurnOff()
    {
        if (!IsOff)
        {
            IsOff = true;
            _wentOff.TrySetResult();
            // Not from here: the store's lock is held.
            _thread?.Post(static state => ((CancellationTokenSource)state!).Cancel(), _off);
        }
    }

    public void Require()
    {
        if (IsOff)
        {
            throw new SimulatedCrashException(Operations);
        }
    }

    /// <summary>A transaction that writes, with the moments before and behind it.</summary>
    public async ValueTask<T> AroundAsync<T>(Func<ValueTask<T>> transaction)
    {
        Pass();
        var result = await transaction();
        Transactions++;
        Pass();
        return result;
    }

    private void Pass()
    {
        Require();
        if (Operations >= FailsAt || FailsWhen?.Invoke() == true)
        {
            Failed?.Invoke();
            TurnOff();
            throw new SimulatedCrashException(Operations);
        }
        Operations++;
        Passed?.Invoke();
    }
}

/// <summary>A database that works while there is power; its transactions survive.</summary>
internal sealed class PoweredDatabase(IDatabase inner, Power power) : IDatabase
{
    public ValueTask<T> WriteAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken) =>
        power.AroundAsync(() => inner.WriteAsync(Guarded(body), cancellationToken));

    public ValueTask<T> ReadAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken) => inner.ReadAsync(Guarded(body), cancellationToken);

    public IScratch OpenScratch() => inner.OpenScratch();

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private Func<ISqlConnection, T> Guarded<T>(Func<ISqlConnection, T> body) => connection =>
    {
        power.Require();
        return body(connection);
    };
}

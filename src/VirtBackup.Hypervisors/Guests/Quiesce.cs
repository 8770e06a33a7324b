using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Guests;

/// <summary>
/// What happens inside a guest around its cut: hook, freeze, and behind the cut thaw, hook. Whatever happens after a freeze
/// was asked for, a thaw is sent; a silent agent costs its time limit and nothing more. Drivers make one before they cut,
/// call <see cref="ThawAsync"/> behind the cut whatever its outcome, and read <see cref="Consistency"/> then.
/// </summary>
internal sealed class Quiesce : IAsyncDisposable
{
    private static readonly TimeSpan ThawTimeout = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan DoubtfulThawTimeout = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan GuardMargin = TimeSpan.FromSeconds(5);
    /// <summary>A thaw that is not answered is asked for once more, and between them the agent is synchronised with.</summary>
    private static readonly TimeSpan ThawMax = (3 * ThawTimeout) + GuardMargin;
    private readonly CaptureRequest request;
    private readonly FreezeMarks marks;
    private readonly IFreezeLease? lease;
    private readonly TimeProvider time;
    private readonly CancellationTokenSource cutEnded = new();
    private IGuestAgent? agent;
    private Task<bool> limiting = Task.FromResult(false);
    private long askedAt, frozenAt;
    private bool frozen, prepared;
    private string detail = "";

    private Quiesce(CaptureRequest request, FreezeMarks marks, IFreezeLease? lease, TimeProvider time)
    {
        this.request = request;
        this.marks = marks;
        this.lease = lease;
        this.time = time;
    }

    /// <summary>True behind <see cref="ThawAsync"/> when the freeze is known to have held until then.</summary>
    public bool Held { get; private set; }

    /// <summary>What may be said of the cut, behind <see cref="ThawAsync"/>.</summary>
    public CaptureConsistency Consistency =>
        !Held ? CaptureConsistency.Crash : prepared ? CaptureConsistency.Application : CaptureConsistency.Filesystem;

    /// <summary>Why, for people.</summary>
    public string Detail => detail;

    /// <summary>Before the cut: a freeze was asked for and not confirmed, so that the guest may stand still, or come to.</summary>
    public bool IsInDoubt => agent is not null && !frozen && marks.Has(FreezeMarks.Frozen);

    /// <summary>Behind <see cref="ThawAsync"/>: the guest was frozen, and does not say that it goes on.</summary>
    public bool IsStillFrozen => frozen && marks.Has(FreezeMarks.Frozen);

    /// <summary>From the agent's answer to the freeze to its answer to the thaw; null: it did not freeze, or did not answer.</summary>
    public TimeSpan? Frozen { get; private set; }

    /// <summary>For how long a guard is to wait that is armed before this begins.</summary>
    public static TimeSpan GuardLimit(CaptureRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        return (request.Hooks.BeforeFreeze?.TimeLimit ?? TimeSpan.Zero) + (request.Gate is null ? TimeSpan.Zero : GatedHold.PreparedMax)
            + request.QuiesceTimeout + request.FreezeLimit + GuardMargin;
    }

    /// <summary>Never throws for the agent's sake: without it, the capture is crash-consistent and says why.</summary>
    /// <param name="connect">Reaches the guest agent; null: there is none.</param>
    /// <param name="lease">Of the guard that watches this guest already; null: nobody does.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the hook failed, and is to end the capture then.</exception>
    public static async Task<Quiesce> BeginAsync(
        CaptureRequest request, bool running, Func<CancellationToken, Task<IGuestAgent>>? connect, FreezeMarks marks, IFreezeLease? lease, TimeProvider time,
        CancellationToken cancellationToken)
    {
        var quiesce = new Quiesce(request, marks, lease, time);
        try
        {
            await quiesce.StartAsync(running, connect, cancellationToken);
            return quiesce;
        }
        catch
        {
            await quiesce.ThawAsync();
            await quiesce.DisposeAsync();
            throw;
        }
    }

    private async Task StartAsync(bool running, Func<CancellationToken, Task<IGuestAgent>>? connect, CancellationToken cancellationToken)
    {
        agent = await FindAgentAsync(running, connect, cancellationToken);
        if (agent is not null)
        {
            await PrepareAsync(cancellationToken);
        }
        if (request.Gate is { } gate)
        {
            await RenewAsync(GatedHold.PreparedMax);
            await GatedHold.PrepareAsync(gate, time, cancellationToken);
            await RenewAsync(request.QuiesceTimeout + request.FreezeLimit);
        }
        if (agent is null)
        {
            return;
        }
        try
        {
            await FreezeAsync(cancellationToken);
        }
        catch (FaultException fault)
        {
            detail += $"Crash-consistent: {fault.Message}";
        }
    }

    private async Task<IGuestAgent?> FindAgentAsync(bool running, Func<CancellationToken, Task<IGuestAgent>>? connect, CancellationToken cancellationToken)
    {
        if (!running || !request.Quiesce || connect is null)
        {
            detail = !running ? "The machine was not running."
                : !request.Quiesce ? "Crash-consistent, as asked for."
                : "Crash-consistent: no guest agent is configured for this machine.";
            RequireHook(running && request.Quiesce ? detail : null);
            return null;
        }
        try
        {
            return await connect(cancellationToken);
        }
        catch (FaultException fault)
        {
            detail = $"Crash-consistent: {fault.Message}";
            RequireHook(fault.Message);
            return null;
        }
    }

    // A hook that must succeed has failed when it could not even be begun.
    private void RequireHook(string? problem)
    {
        if (problem is not null && request.Hooks is { BeforeFreeze: not null, AbortOnFailure: true })
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The hook before the freeze could not be run, and this machine is not to be backed up without it: {problem}");
        }
    }

    private async Task PrepareAsync(CancellationToken cancellationToken)
    {
        if (request.Hooks.BeforeFreeze is not { } hook)
        {
            return;
        }
        marks.SetHooked(request.Hooks.AfterThaw);
        var problem = await GuestHookRun.RunAsync(agent!, hook, "before the freeze", time, request.Log, cancellationToken);
        prepared = problem is null;
        if (prepared)
        {
            return;
        }
        if (request.Hooks.AbortOnFailure)
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                $"The hook before the freeze {problem}, and this machine is not to be backed up then. The job's log has its output.");
        }
        detail = $"The hook before the freeze {problem}. ";
    }

    private async Task FreezeAsync(CancellationToken cancellationToken)
    {
        await RenewAsync(request.QuiesceTimeout + request.FreezeLimit);
        marks.Set(FreezeMarks.Frozen);
        try
        {
            askedAt = time.GetTimestamp();
            var count = await agent!.FreezeAsync(request.QuiesceTimeout, cancellationToken);
            frozenAt = time.GetTimestamp();
            frozen = count > 0;
            detail += frozen ? $"{count} file systems were frozen" : "Crash-consistent: the guest agent found no file system to freeze.";
            if (frozen)
            {
                limiting = LimitAsync();
            }
        }
        catch (Exception failure) when (failure is FaultException or OperationCanceledException)
        {
            // The freeze may still be under way, and would last until somebody ends it. A guest that does not say that it
            // is thawed stays marked, and under the guard's eyes.
            await agent!.AskToThawAsync(CancellationToken.None);
            frozen = false;
            throw;
        }
    }

    /// <returns>True: the limit passed, and the guest was thawed in the middle of the cut.</returns>
    private async Task<bool> LimitAsync()
    {
        try
        {
            await Task.Delay(request.FreezeLimit, time, cutEnded.Token);
        }
        catch (OperationCanceledException)
        {
            return false;
        }
        await agent!.AskToThawAsync(CancellationToken.None);
        return true;
    }

    /// <summary>Ends the freeze and runs the hook behind it. Never throws for the agent's sake: <see cref="Detail"/> tells.</summary>
    public async Task ThawAsync()
    {
        await cutEnded.CancelAsync();
        if (agent is null)
        {
            return;
        }
        var isLate = await limiting;
        if (marks.Has(FreezeMarks.Frozen))
        {
            if (isLate)
            {
                await RenewAsync(ThawMax);
            }
            await EndFreezeAsync(isLate);
        }
        await FinishHooksAsync();
    }

    private async Task EndFreezeAsync(bool isLate)
    {
        try
        {
            // Not zero: what was frozen was so until now. Windows and a restarted agent thaw by themselves.
            var count = await agent!.ThawAsync(frozen ? ThawTimeout : DoubtfulThawTimeout, CancellationToken.None);
            var thawed = time.GetElapsedTime(frozenAt);
            marks.Remove(FreezeMarks.Frozen);
            if (!frozen)
            {
                return;
            }
            Frozen = thawed;
            Held = count > 0 && !isLate;
            detail += $" for {Frozen.Value.TotalMilliseconds:0} ms";
            detail += Held ? $"; freezing them had taken {time.GetElapsedTime(askedAt, frozenAt).TotalMilliseconds:0} ms."
                : isLate ? $", but the cut was not made within {request.FreezeLimit.TotalSeconds:0.#} s, and the guest was thawed before. Crash-consistent."
                : ", but were thawed before the cut was made. Crash-consistent.";
        }
        catch (FaultException fault)
        {
            detail += frozen
                ? $", but the guest agent did not confirm the thaw: {fault.Message} Crash-consistent. Check that the guest's file systems can be written to."
                : " The guest agent does not confirm that the guest is thawed; check that its file systems can be written to.";
        }
    }

    private async Task FinishHooksAsync()
    {
        if (!marks.Has(FreezeMarks.Hooked))
        {
            return;
        }
        // While the guest may be frozen its agent runs nothing: left to the guard.
        if (marks.Has(FreezeMarks.Frozen))
        {
            return;
        }
        if (request.Hooks.AfterThaw is { } hook)
        {
            await RenewAsync(hook.TimeLimit + ThawMax);
            if (await GuestHookRun.RunAsync(agent!, hook, "after the thaw", time, request.Log, CancellationToken.None) is { } problem)
            {
                detail += $" The hook after the thaw {problem}.";
            }
        }
        marks.Remove(FreezeMarks.Hooked);
    }

    private async Task RenewAsync(TimeSpan limit)
    {
        if (lease is not null)
        {
            await lease.RenewAsync(limit + GuardMargin, CancellationToken.None);
        }
    }

    /// <summary>Called when a guard let the guest go on before the cut was made.</summary>
    public void DenyHeld()
    {
        if (Held)
        {
            Held = false;
            detail += " The thaw watchdog thawed the guest before the cut was over. Crash-consistent.";
        }
    }

    public async ValueTask DisposeAsync()
    {
        cutEnded.Dispose();
        if (agent is not null)
        {
            await agent.DisposeAsync();
        }
    }
}

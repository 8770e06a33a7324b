using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Guests;

/// <summary>
/// The waits of one guest at its <see cref="ICutGate"/>, so bounded that it goes on in time whatever becomes of the others. Made when
/// the guest is about to stand still.
/// </summary>
internal sealed class GatedHold(ICutGate gate, CaptureRequest request, TimeProvider time) : IDisposable
{
    /// <summary>Others may have hooks of their own; nothing is frozen meanwhile.</summary>
    public static readonly TimeSpan PreparedMax = TimeSpan.FromMinutes(2);
    private readonly CancellationTokenSource limit = new(MaxOf(request), time);

    /// <summary>The rest of the freeze limit is for the cut itself and for the thaw.</summary>
    public static TimeSpan MaxOf(CaptureRequest request) => request.FreezeLimit * 3 / 4;

    /// <summary>Before the guest is frozen.</summary>
    public static async Task PrepareAsync(ICutGate gate, TimeProvider time, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(PreparedMax, time);
        await PassAsync(gate.PreparedAsync, limit, PreparedMax, "prepared", cancellationToken);
    }

    public Task FreezeAsync(CancellationToken cancellationToken) => PassAsync(gate.FrozenAsync, limit, MaxOf(request), "frozen", cancellationToken);

    public Task CutAsync(CancellationToken cancellationToken) => PassAsync(gate.CutAsync, limit, MaxOf(request), "cut", cancellationToken);

    public void Dispose() => limit.Dispose();

    private static async Task PassAsync(
        Func<CancellationToken, ValueTask> step, CancellationTokenSource limit, TimeSpan max, string state, CancellationToken cancellationToken)
    {
        using var both = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            await step(both.Token);
        }
        catch (OperationCanceledException failure) when (limit.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                $"The other machines of the group were not {state} within {max.TotalSeconds:0.#} s, and this one was let go on.", failure);
        }
    }
}

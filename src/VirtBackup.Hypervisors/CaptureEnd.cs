using VirtBackup.Core;

namespace VirtBackup.Hypervisors;

/// <summary>What has become of a capture's point.</summary>
public enum CaptureOutcome
{
    Committed,
    Abandoned,
    Unknown,
}

/// <summary>
/// The end of a capture, for drivers: one outcome, however often it is tried, since abandoning a point that became durable would
/// cost the next run its tracking; only to leave it open is always right. Safe for concurrent use.
/// </summary>
/// <param name="apply">Does it; may be called again when it failed.</param>
public sealed class CaptureEnd(Func<CaptureOutcome, CancellationToken, Task> apply) : IDisposable
{
    private readonly SemaphoreSlim turn = new(1);
    private CaptureOutcome? wanted;
    private bool ended;

    /// <summary>Applies the outcome, unless one was applied.</summary>
    /// <exception cref="FaultException">It could not be applied, and can be tried again.</exception>
    public async ValueTask EndAsync(CaptureOutcome outcome, CancellationToken cancellationToken)
    {
        Check.That(wanted is null || wanted == outcome || outcome == CaptureOutcome.Unknown);
        wanted = outcome;
        await turn.WaitAsync(cancellationToken);
        try
        {
            if (!ended)
            {
                await apply(outcome, cancellationToken);
                ended = true;
            }
        }
        finally
        {
            turn.Release();
        }
    }

    /// <summary>Abandons what was not ended; tries a failed end once more. What cannot be cleaned up now is left to the next <see cref="IHypervisor.SettleAsync"/>.</summary>
    /// <returns>Whether it is over.</returns>
    public async ValueTask<bool> TryFinishAsync()
    {
        try
        {
            await EndAsync(wanted ?? CaptureOutcome.Abandoned, CancellationToken.None);
            return true;
        }
        catch (FaultException)
        {
            // The hypervisor does not answer, or the machine is gone.
            return false;
        }
    }

    public void Dispose() => turn.Dispose();
}

using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>What has become of a capture's point.</summary>
internal enum CaptureOutcome
{
    Committed,
    Abandoned,
    Unknown,
}

/// <summary>The end of a capture: one outcome, however often it is tried; only to leave it open is always right. Safe for concurrent use.</summary>
/// <param name="apply">Does it; may be called again when it failed.</param>
internal sealed class CaptureEnd(Func<CaptureOutcome, CancellationToken, Task> apply) : IDisposable
{
    private readonly SemaphoreSlim turn = new(1);
    private CaptureOutcome? wanted;
    private bool ended;

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
    public async ValueTask FinishAsync()
    {
        try
        {
            await EndAsync(wanted ?? CaptureOutcome.Abandoned, CancellationToken.None);
        }
        catch (FaultException)
        {
            // libvirt does not answer, or the machine is gone.
        }
    }

    public void Dispose() => turn.Dispose();
}

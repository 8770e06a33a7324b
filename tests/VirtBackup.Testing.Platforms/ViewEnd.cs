using VirtBackup.Core;

namespace VirtBackup.Testing.Platforms;

/// <summary>What has become of a capture's point.</summary>
internal enum ViewOutcome
{
    Committed,
    Abandoned,
    Unknown,
}

/// <summary>
/// The end of a view: one outcome, however often it is tried; only to leave it open is always right. Safe for concurrent use.
/// </summary>
internal sealed class ViewEnd(Func<ViewOutcome, CancellationToken, ValueTask> apply) : IDisposable
{
    private readonly SemaphoreSlim turn = new(1);
    private ViewOutcome? wanted;
    private bool ended;

    public async ValueTask EndAsync(ViewOutcome outcome, CancellationToken cancellationToken)
    {
        Check.That(wanted is null || wanted == outcome || outcome == ViewOutcome.Unknown);
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

    /// <summary>Abandons what was not ended; what cannot be reached is left to the next settlement.</summary>
    public async ValueTask DisposeAsync()
    {
        try
        {
            await EndAsync(wanted ?? ViewOutcome.Abandoned, CancellationToken.None);
        }
        catch (FaultException)
        {
            // The server is out of reach.
        }
    }

    public void Dispose() => turn.Dispose();
}

using VirtBackup.Agent.Flow;
using VirtBackup.Core;

namespace VirtBackup.Agent.Upload;

/// <summary>Calls to a controller that may be away for a while: made again until it answers, for as long as a run waits for it anywhere.</summary>
internal static class PatientCall
{
    /// <param name="call">May be made several times.</param>
    /// <param name="tools">Clock and chance of the waits.</param>
    /// <param name="progress">Is told why it takes longer.</param>
    /// <param name="cancellationToken">Ends the waiting.</param>
    /// <exception cref="FaultException">It was away for longer than <see cref="StoreSession.PatienceMax"/>, or said no.</exception>
    public static async Task<T> RunAsync<T>(Func<CancellationToken, ValueTask<T>> call, (TimeProvider Time, IEntropy Entropy) tools, RunProgress progress, CancellationToken cancellationToken)
    {
        var backoff = new Backoff(tools.Time, tools.Entropy);
        var start = tools.Time.GetTimestamp();
        while (true)
        {
            try
            {
                return await call(cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable && tools.Time.GetElapsedTime(start) < StoreSession.PatienceMax)
            {
                progress.Log($"The controller is away and is waited for: {fault.Message}");
            }
            await backoff.WaitAsync(cancellationToken);
        }
    }
}

namespace VirtBackup.Controller.Control;

/// <summary>Work that must come to an end of its own, since machines depend on it and nobody else ends it: what fails otherwise is taken up again.</summary>
internal static class Insistence
{
    /// <param name="attempt">Each goes on where the last one was.</param>
    /// <param name="failed">Told of every attempt that failed.</param>
    /// <param name="delay">Between attempts.</param>
    /// <exception cref="OperationCanceledException">The controller stops: the next one takes it up.</exception>
    public static async Task RunAsync(Func<Task> attempt, Action<Exception> failed, TimeSpan delay, TimeProvider time, CancellationToken stopping)
    {
        while (true)
        {
            try
            {
                await attempt();
                return;
            }
            catch (OperationCanceledException) when (stopping.IsCancellationRequested)
            {
                throw;
            }
#pragma warning disable CA1031 // Whatever it was: half of it is done, on hosts that wait.
            catch (Exception failure)
#pragma warning restore CA1031
            {
                failed(failure);
            }
            await Task.Delay(delay, time, stopping);
        }
    }
}

using Google.Protobuf;
using VirtBackup.Core;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Control;

/// <summary>Takes the progress of a job that the controller runs itself, and tells the newest of it once a second. Safe for concurrent use.</summary>
/// <param name="describe">What operators are told of it.</param>
internal sealed class JobProgress<T>(JobService jobs, Id16 jobId, TimeProvider time, Func<T, Progress> describe) : IProgress<T>
    where T : struct
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private T _newest;

    public void Report(T value)
    {
        lock (_lock)
        {
            _newest = value;
        }
    }

    /// <summary>Does the work, and tells how far it is meanwhile.</summary>
    public async ValueTask<TResult> DuringAsync<TResult>(Func<ValueTask<TResult>> work, CancellationToken cancellationToken)
    {
        using var reporting = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var reporter = TellAsync(reporting.Token);
        try
        {
            return await work();
        }
        finally
        {
            await reporting.CancelAsync();
            await reporter;
        }
    }

    private async Task TellAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        try
        {
            while (true)
            {
                await Task.Delay(Interval, time, cancellationToken);
                T newest;
                lock (_lock)
                {
                    newest = _newest;
                }
                await jobs.ProgressAsync(jobId, describe(newest).ToByteArray(), cancellationToken);
            }
        }
        catch (OperationCanceledException)
        {
            // The work is over.
        }
    }
}

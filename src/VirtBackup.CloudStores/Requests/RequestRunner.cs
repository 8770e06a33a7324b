using VirtBackup.Core;

namespace VirtBackup.CloudStores.Requests;

/// <summary>
/// Runs requests until they have an answer: each with a time limit, again after failures that pass, with growing pauses of
/// random length, and at last one clear fault. Safe for concurrent use.
/// </summary>
/// <param name="location">The store, for people.</param>
internal sealed class RequestRunner(string location, RequestPatience patience, TimeProvider time, IEntropy entropy)
{
    // Who is asked for less load must get it at once: the first pause is as long as the fifth of other failures.
    private const int ThrottledHeadStart = 4;

    /// <param name="action">What is done, as in "cannot <c>read packs/1</c>".</param>
    /// <param name="bytes">Bytes of the body or answer, at most.</param>
    /// <param name="attempt">One request; fails with <see cref="CloudRequestException"/>.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="FaultException">No answer could be had, or one that says no. Answers that mean something else are the attempt's to deal with.</exception>
    public async Task<T> RunAsync<T>(string action, long bytes, Func<CancellationToken, Task<T>> attempt, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        for (var attempts = 1; ; attempts++)
        {
            CloudRequestException failure;
            using (var limit = new CancellationTokenSource(patience.LimitFor(bytes), time))
            using (var both = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limit.Token))
            {
                cancellationToken.ThrowIfCancellationRequested();
                try
                {
                    return await attempt(both.Token);
                }
                catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
                {
                    failure = new CloudRequestException(FailureKind.Passing, $"no answer within {patience.LimitFor(bytes).TotalSeconds:0} s");
                }
                catch (CloudRequestException failed) when (failed.IsWorthRepeating)
                {
                    // Cancelling breaks connections off in many ways.
                    cancellationToken.ThrowIfCancellationRequested();
                    failure = failed;
                }
                catch (CloudRequestException final)
                {
                    throw new FaultException(final.Reason, $"Cannot {action} in {location}: {Sentence(final.Message)} {final.Advice}".TrimEnd(), final);
                }
            }
            if (attempts >= patience.AttemptsMax || time.GetElapsedTime(started) >= patience.TotalMax)
            {
                throw new FaultException(
                    FaultReason.Unavailable,
                    $"Cannot {action} in {location}: {attempts} tries in {time.GetElapsedTime(started).TotalSeconds:0} s failed, the last one with: {Sentence(failure.Message)} Check the store and the network, then try again.",
                    failure);
            }
            await Task.Delay(PauseAfter(attempts + (failure.Kind == FailureKind.Throttled ? ThrottledHeadStart : 0)), time, cancellationToken);
        }
    }

    private TimeSpan PauseAfter(int failures)
    {
        var longest = Math.Min(patience.PauseMax.TotalMilliseconds, patience.FirstPause.TotalMilliseconds * Math.Pow(2, failures - 1));
        Span<byte> chance = stackalloc byte[2];
        entropy.Fill(chance);
        // Between half of it and all: many who failed together do not come back together.
        return TimeSpan.FromMilliseconds(longest * (0.5 + (BitConverter.ToUInt16(chance) / 131072.0)));
    }

    private static string Sentence(string detail) => detail.TrimEnd().TrimEnd('.') + ".";
}

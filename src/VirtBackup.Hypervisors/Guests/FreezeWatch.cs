using System.Text.Json;

namespace VirtBackup.Hypervisors.Guests;

/// <summary>What is said to a watchdog, one JSON document a line. Milliseconds count from its arrival.</summary>
/// <param name="Target">With the first line, which arms.</param>
internal sealed record WatchOrder(long LimitMs, FreezeTarget? Target = null, bool Disarm = false);

/// <summary>The watchdog's answer, one JSON document to every line.</summary>
/// <param name="Acted">The guest was let go on by the watchdog.</param>
internal sealed record WatchAnswer(bool Acted);

/// <summary>
/// The watchdog's side of <see cref="WatchdogGuard"/>: one guest, from the line that arms to the one that disarms, or to the end of the
/// other process, or to the limit. The end of the stream is the other process's death.
/// </summary>
public sealed class FreezeWatch(IReadOnlyList<IGuestRelease> releases, TimeProvider time, Action<string> log, Action endHolder)
{
    private static readonly TimeSpan RetryInterval = TimeSpan.FromMilliseconds(250);
    /// <summary>How long a living but late process may go on holding the guest's sockets.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(3);
    /// <summary>A guest that does not answer for so long is not helped by further tries.</summary>
    private static readonly TimeSpan GiveUp = TimeSpan.FromMinutes(5);

    /// <returns>True: the guest goes on, or was never held. False: it could not be let go on.</returns>
    public async Task<bool> RunAsync(Stream orders, Stream answers, CancellationToken cancellationToken)
    {
        using var reader = new StreamReader(orders);
        if (Read(await reader.ReadLineAsync(cancellationToken)) is not { Target: { } target } order)
        {
            return true; // whoever began this has gone before it had anything to be watched
        }
        if (releases.FirstOrDefault(candidate => candidate.Kind == target.Kind) is not { } release)
        {
            log($"No driver here knows machines of the kind '{target.Kind}'.");
            return false;
        }
        void Log(string line) => log($"{target.Name}: {line}");
        var (armedAt, limit) = (time.GetTimestamp(), TimeSpan.FromMilliseconds(order.LimitMs));
        await AnswerAsync(answers, acted: false);
        bool? released = null;
        // A read of a pipe cannot be called off, so it goes on beside the limit.
        var next = reader.ReadLineAsync(CancellationToken.None).AsTask();
        while (true)
        {
            using var wait = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            var left = limit - time.GetElapsedTime(armedAt);
            var late = released is null ? Task.Delay(left > TimeSpan.Zero ? left : TimeSpan.Zero, time, wait.Token) : Task.Delay(Timeout.InfiniteTimeSpan, time, wait.Token);
            var first = await Task.WhenAny(next, late);
            await wait.CancelAsync();
            if (first == late)
            {
                cancellationToken.ThrowIfCancellationRequested();
                Log($"The agent has not let the guest go on within {limit.TotalSeconds:0.#} s.");
                released = await ReleaseAsync(release, target, isHolderAlive: true, Log, cancellationToken);
                continue;
            }
            if (Read(await ReadOrEndAsync(next)) is not { } said)
            {
                if (released is null)
                {
                    released = await ReleaseAsync(release, target, isHolderAlive: false, Log, cancellationToken);
                }
                return released.Value;
            }
            (armedAt, limit) = (time.GetTimestamp(), TimeSpan.FromMilliseconds(said.LimitMs));
            await AnswerAsync(answers, released is not null);
            if (said.Disarm)
            {
                return true;
            }
            next = reader.ReadLineAsync(CancellationToken.None).AsTask();
        }
    }

    private async Task<bool> ReleaseAsync(IGuestRelease release, FreezeTarget target, bool isHolderAlive, Action<string> say, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        var last = "";
        void SayOnce(string line)
        {
            if (line != last)
            {
                say(last = line);
            }
        }
        while (true)
        {
            if (await release.TryReleaseAsync(target, SayOnce, cancellationToken) == ReleaseOutcome.Released)
            {
                say("The guest goes on.");
                return true;
            }
            if (isHolderAlive && release.NeedsHolderGone && time.GetElapsedTime(started) > Grace)
            {
                // Its connections keep everybody else from the guest, which must not wait for a process that hangs.
                say("The agent still holds the guest and is ended.");
                endHolder();
                isHolderAlive = false;
            }
            if (time.GetElapsedTime(started) > GiveUp)
            {
                say("The guest could not be let go on. Check that its file systems can be written to; if they cannot, thaw them by hand (guest-fsfreeze-thaw).");
                return false;
            }
            await Task.Delay(RetryInterval, time, cancellationToken);
        }
    }

    private static WatchOrder? Read(string? line)
    {
        try
        {
            return line is null ? null : JsonSerializer.Deserialize<WatchOrder>(line);
        }
        catch (JsonException)
        {
            return null; // torn by the other's death
        }
    }

    private static async Task<string?> ReadOrEndAsync(Task<string?> line)
    {
        try
        {
            return await line;
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static async Task AnswerAsync(Stream answers, bool acted)
    {
        try
        {
            await answers.WriteAsync((byte[])[.. JsonSerializer.SerializeToUtf8Bytes(new WatchAnswer(acted)), (byte)'\n'], CancellationToken.None);
            await answers.FlushAsync(CancellationToken.None);
        }
        catch (IOException)
        {
            // Nobody is there to be told; the end of the orders says so, too.
        }
    }
}

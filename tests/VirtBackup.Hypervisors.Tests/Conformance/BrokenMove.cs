namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>A move that stops for ever at a phase.</summary>
internal static class BrokenMove
{
    /// <summary>Moves up to the phase, lets something happen, and goes on: what the dead one's hand would do now, it is refused.</summary>
    /// <param name="rate">While it copies.</param>
    /// <param name="happens">With what an agent that starts now finds.</param>
    public static async Task RunAsync(IStorageMover mover, StorageMoveRequest request, string phase, long rate, Func<Task> happens)
    {
        var reached = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var goOn = new ManualResetEventSlim();
        var moving = Task.Run(async () => await mover.MoveAsync(request with
        {
            BytesPerSecondMax = phase == "copying" ? rate : 0,
            Progress = progress =>
            {
                if (progress.Phase == phase && reached.TrySetResult())
                {
                    goOn.Wait();
                }
            },
        }, default));
        await Task.WhenAny(reached.Task, moving);
        Assert.True(reached.Task.IsCompleted, $"{(moving.IsFaulted ? moving.Exception.ToString() : "")}");
        try
        {
            await happens();
        }
        finally
        {
            goOn.Set();
        }
        await Assert.ThrowsAnyAsync<Exception>(() => moving);
    }
}

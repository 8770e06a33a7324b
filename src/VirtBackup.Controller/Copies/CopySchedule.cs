using Microsoft.Extensions.Logging;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository;
using VirtBackup.Repository.Replication;
using VirtBackup.Repository.Scrubbing;

namespace VirtBackup.Controller.Copies;

/// <summary>Opens a copy store, and opens it again after it failed; starts a run whenever there is something to do in it.</summary>
internal sealed partial class CopySchedule(CopyParts parts, CopyService service, ILogger logger)
{
    /// <summary>Between two looks when nothing new is told: locks and rule sets change without news.</summary>
    private static readonly TimeSpan LookInterval = TimeSpan.FromMinutes(10);

    /// <summary>After a run that failed.</summary>
    private static readonly TimeSpan RetryInterval = TimeSpan.FromMinutes(2);

    private static readonly TimeSpan BackOffMin = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan BackOffMax = TimeSpan.FromMinutes(2);

    private volatile TaskCompletionSource _news = NewSignal();

    public void Wake()
    {
        var news = Interlocked.Exchange(ref _news, NewSignal());
        news.TrySetResult();
    }

    public async Task FollowAsync(CopyEntry entry, CancellationToken cancellationToken)
    {
        await Task.Yield();
        var backOff = BackOffMin;
        while (true)
        {
            try
            {
                await using var copy = await OpenAsync(entry, cancellationToken);
                LogOpen(entry.Row.Name);
                backOff = BackOffMin;
                entry.Open = copy;
                try
                {
                    await KeepAsync(entry, copy, cancellationToken);
                }
                finally
                {
                    entry.Open = null;
                }
            }
            catch (FaultException fault)
            {
                LogNotOpen(entry.Row.Name, fault.Message);
                entry.NoteClosed(fault.Message);
            }
            catch (Exception failure) when (failure is not OperationCanceledException)
            {
                LogBroken(failure, entry.Row.Name);
                entry.NoteClosed("It failed unexpectedly: see the controller's log.");
            }
            await Task.Delay(backOff, parts.Time, cancellationToken);
            backOff = backOff * 2 < BackOffMax ? backOff * 2 : BackOffMax;
        }
    }

    private async ValueTask<OpenCopy> OpenAsync(CopyEntry entry, CancellationToken cancellationToken)
    {
        var place = await parts.Places!.OpenAsync(entry.Row.Name, StoreLocation.Parse(entry.Row.Location), isNew: false, cancellationToken);
        try
        {
            // Before anything is claimed: another repository at this place is a swapped disk.
            if ((await BackupRepository.ReadHeadAsync(place.Store, cancellationToken)).Uuid is var found && found != parts.Repository.Head.Uuid)
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"'{entry.Row.Location}' holds repository {found}, not a copy of this one: check which disk is mounted there, or the address.");
            }
            var options = new RepositoryOptions
            {
                PackBytesTarget = place.Store.PackBytesTarget, TimeFloorMs = (await parts.Clock.ReadAsync(cancellationToken)).NowMs, IsCopy = true,
            };
            return new OpenCopy(entry.Row, place, await BackupRepository.OpenAsync(place.Store, place.Index, options, parts.Time, parts.Entropy, cancellationToken));
        }
        catch
        {
            await place.DisposeAsync();
            throw;
        }
    }

    private async Task KeepAsync(CopyEntry entry, OpenCopy copy, CancellationToken cancellationToken)
    {
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        IRecordSource[] sources = [new RepositoryRecords(parts.Repository), new CopiedRecords(() => service.Open, except: entry.Row.Name), .. parts.Elsewhere];
        var upkeep = new CopyUpkeep(parts, copy, sources, logger);
        Task[] loops = [FillAsync(entry, copy, scope.Token), upkeep.CollectAsync(scope.Token), upkeep.ScrubAsync(scope.Token)];
        try
        {
            await await Task.WhenAny(loops);
        }
        finally
        {
            await scope.CancelAsync();
            await Task.WhenAll(loops).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    /// <exception cref="FaultException">The copy store cannot be used any more.</exception>
    private async Task FillAsync(CopyEntry entry, OpenCopy copy, CancellationToken cancellationToken)
    {
        await Task.Yield();
        var comparison = new CopyComparison(parts);
        while (true)
        {
            var news = _news.Task;
            var cursor = parts.Repository.Serving.Now;
            var wait = LookInterval;
            if ((await comparison.RunAsync(copy, cancellationToken)).IsNothing)
            {
                await parts.Catalog.Copies.SetCompleteAsync(entry.Row.Name, parts.Time.NowMs(), cancellationToken);
            }
            else if (!await RunAsync(entry, cancellationToken))
            {
                wait = RetryInterval;
            }
            await WaitAsync(cursor, news, wait, cancellationToken);
        }
    }

    /// <summary>False: the run failed, and may do so for a while.</summary>
    private async ValueTask<bool> RunAsync(CopyEntry entry, CancellationToken cancellationToken)
    {
        var job = await service.StartAsync(new StartCopyRequest { Store = entry.Row.Name }, cancellationToken);
        await foreach (var state in parts.Jobs.WatchAsync(job.JobId, cancellationToken))
        {
            if (state is { IsFinal: true, FailureMessage.Length: > 0 })
            {
                return state.FailureReason == FaultReason.Fenced ? throw new FaultException(state.FailureReason, state.FailureMessage) : false;
            }
        }
        return true;
    }

    private async ValueTask WaitAsync(ReplicaCursor cursor, Task news, TimeSpan wait, CancellationToken cancellationToken)
    {
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Task[] waits = [parts.Repository.Serving.WaitAsync(cursor, scope.Token).AsTask(), news, Task.Delay(wait, parts.Time, scope.Token)];
        await Task.WhenAny(waits);
        await scope.CancelAsync();
        await Task.WhenAll(waits[0], waits[2]).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        cancellationToken.ThrowIfCancellationRequested();
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    [LoggerMessage(Level = LogLevel.Information, Message = "The copy store '{Store}' is open.")]
    private partial void LogOpen(string store);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The copy store '{Store}' is not open: {Reason}")]
    private partial void LogNotOpen(string store, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "The copy store '{Store}' failed; it is opened again in some minutes.")]
    private partial void LogBroken(Exception failure, string store);
}

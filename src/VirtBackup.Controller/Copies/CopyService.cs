using System.Collections.Concurrent;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Copies;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository.Scrubbing;
using Progress = VirtBackup.Protocol.Common.V1.Progress;

namespace VirtBackup.Controller.Copies;

/// <summary>
/// Keeps copy stores open, and runs as jobs what is to be done in them: several stores beside each other, one run of a store at a
/// time. Safe for concurrent use.
/// </summary>
public sealed partial class CopyService : IDisposable
{
    private const int StoresAtOnce = 4;

    private readonly CopyParts _parts;
    private readonly ILogger _logger;
    private readonly OwnJobs _queue;
    private readonly ConcurrentDictionary<string, CopyEntry> _entries = new(StringComparer.Ordinal);
    private readonly Gate _changing = new();
    private readonly CopySchedule _schedule;
    private CancellationToken _stopping = new(canceled: true);

    public CopyService(CopyParts parts, ILogger<CopyService> logger)
    {
        (_parts, _logger) = (parts, logger);
        _queue = new OwnJobs(RunAsync, "copy", parts.Jobs, logger, StoresAtOnce);
        _schedule = new CopySchedule(parts, this, logger);
        Records = new CopiedRecords(() => Open, except: null);
    }

    /// <summary>Sound copies of the repository's damaged records.</summary>
    public IRecordSource Records { get; }

    internal IEnumerable<OpenCopy> Open => _entries.Values.Select(static entry => entry.Open).OfType<OpenCopy>();

    public void Cancel(Id16 jobId) => _queue.Cancel(jobId);

    /// <summary>Opens what the catalog lists, and keeps it filled, until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        var jobs = _queue.RunAsync(cancellationToken);
        using (await _changing.CloseAsync(cancellationToken))
        {
            _stopping = cancellationToken;
            foreach (var row in await _parts.Catalog.Copies.ListStoresAsync(cancellationToken))
            {
                Follow(row);
            }
        }
        try
        {
            await jobs;
        }
        finally
        {
            await Task.WhenAll(_entries.Values.Select(static entry => entry.Following)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    /// <summary>Makes a place a copy store, and begins to fill it.</summary>
    /// <exception cref="FaultException">The place cannot be opened, or holds something else; the name is taken.</exception>
    public async ValueTask AddAsync(CopyStoreRow row, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(row);
        var places = _parts.Places ?? throw new FaultException(FaultReason.Unsupported, "This controller has no way to copy stores.");
        using (await _changing.CloseAsync(cancellationToken))
        {
            var known = await _parts.Catalog.Copies.ListStoresAsync(cancellationToken);
            if (known.Exists(store => store.Name == row.Name))
            {
                throw new FaultException(FaultReason.AlreadyExists, $"There is a copy store called '{row.Name}' already.");
            }
            if (known.Select(static store => store.Location).Append(_parts.Identity.RepositoryLocation).Any(other => CopyPlaceSetup.Overlap(row.Location, other)))
            {
                throw new FaultException(FaultReason.AlreadyExists, $"'{row.Location}' is the repository's own place or a copy store already, or lies within one or around it: choose another place.");
            }
            await using (var place = await places.OpenAsync(row.Name, StoreLocation.Parse(row.Location), isNew: true, cancellationToken))
            {
                await CopyPlaceSetup.PrepareAsync(_parts, place.Store, cancellationToken);
            }
            await _parts.Catalog.Copies.AddStoreAsync(row, cancellationToken);
            LogAdded(row.Name, row.Location);
            Follow(row);
        }
    }

    /// <summary>Closes a copy store and forgets it; what is in it stays.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public async ValueTask RemoveAsync(string name, CancellationToken cancellationToken)
    {
        using (await _changing.CloseAsync(cancellationToken))
        {
            _ = await _parts.Catalog.Copies.RequireStoreAsync(name, cancellationToken);
            if (_entries.TryRemove(name, out var entry))
            {
                await entry.Removal.CancelAsync();
                await entry.Following;
                entry.Dispose();
            }
            await _parts.Catalog.Copies.RemoveStoreAsync(name, CancellationToken.None);
            _parts.Places?.Forget(name);
            LogRemoved(name);
        }
    }

    /// <summary>Starts a run. The same request id gives the job that it started.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>: there is no such store.</exception>
    public async ValueTask<JobRow> StartAsync(StartCopyRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        _ = await _parts.Catalog.Copies.RequireStoreAsync(request.Store, cancellationToken);
        var job = await _parts.Jobs.CreateAsync(
            new JobRow
            {
                JobId = Id16.Create(_parts.Entropy), RequestId = WireText.ToRequestId(request.RequestId), Kind = JobKind.Copy, Options = request.ToByteArray(),
                CreatedMs = _parts.Time.NowMs(),
            },
            cancellationToken);
        await _queue.StartAsync(job, cancellationToken);
        return job;
    }

    /// <summary>Null: it is not followed, because the controller starts or stops.</summary>
    internal CopyEntry? Find(string store) => _entries.GetValueOrDefault(store);

    /// <summary>Something changed that runs may have to follow: they look again.</summary>
    internal void Wake() => _schedule.Wake();

    public void Dispose()
    {
        _queue.Dispose();
        foreach (var entry in _entries.Values)
        {
            entry.Dispose();
        }
        _changing.Dispose();
    }

    private void Follow(CopyStoreRow row)
    {
        var entry = new CopyEntry(row);
        if (_stopping.IsCancellationRequested || !_entries.TryAdd(row.Name, entry))
        {
            entry.Dispose();
            return;
        }
        entry.Following = FollowAsync(entry);
    }

    private async Task FollowAsync(CopyEntry entry)
    {
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(_stopping, entry.Removal.Token);
        try
        {
            await _schedule.FollowAsync(entry, scope.Token);
        }
        catch (OperationCanceledException) when (scope.IsCancellationRequested)
        {
            entry.NoteClosed("It is closed.");
        }
    }

    private async ValueTask<IMessage> RunAsync(JobRow job, CancellationToken cancellationToken)
    {
        var request = StartCopyRequest.Parser.ParseFrom(job.Options);
        var entry = Find(request.Store);
        var copy = entry?.Open;
        using var use = copy?.TryUse();
        if (entry is null || copy is null || use is null)
        {
            throw new FaultException(FaultReason.Unavailable, $"The copy store '{request.Store}' is not open. {entry?.Problem}".TrimEnd());
        }
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, copy.Closing);
        using var running = await entry.Running.CloseAsync(scope.Token);
        (entry.JobId, entry.IsRunning) = (job.JobId, true);
        try
        {
            var progress = new JobProgress<CopyProgress>(_parts.Jobs, job.JobId, _parts.Time, ToMessage);
            var run = new CopyRun(_parts, copy, line => _parts.Jobs.NoteAsync(job.JobId, line, scope.Token), _logger) { Progress = progress };
            var result = await progress.DuringAsync(() => run.RunAsync(scope.Token), scope.Token);
            entry.NoteRun(result.Problems.Count == 0 ? "" : result.Problems[0]);
            if (result.PointsRefused == 0)
            {
                await _parts.Catalog.Copies.SetCompleteAsync(request.Store, _parts.Time.NowMs(), scope.Token);
            }
            return result;
        }
        catch (FaultException fault)
        {
            LogFailed(request.Store, fault.Message);
            entry.NoteRun(fault.Message);
            throw;
        }
        finally
        {
            entry.IsRunning = false;
        }
    }

    private static Progress ToMessage(CopyProgress now) => new()
    {
        Phase = now.Phase ?? "comparing", BytesTotal = (ulong)now.BytesTotal, BytesDone = (ulong)now.BytesDone, BytesSent = (ulong)now.BytesCopied,
    };

    [LoggerMessage(Level = LogLevel.Information, Message = "The copy store '{Store}' was added: {Location}")]
    private partial void LogAdded(string store, string location);

    [LoggerMessage(Level = LogLevel.Information, Message = "The copy store '{Store}' was removed; what is in it stays.")]
    private partial void LogRemoved(string store);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Copying to '{Store}' ended early: {Reason}")]
    private partial void LogFailed(string store, string reason);
}

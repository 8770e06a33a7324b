using System.Collections.Concurrent;
using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Migrations;
using VirtBackup.Controller.Control;
using VirtBackup.Core;

namespace VirtBackup.Controller.Migrations;

/// <summary>Runs migrations, each beside the others, and goes on with those that an earlier run of the controller left. Safe for concurrent use.</summary>
internal sealed partial class MigrationRunner(MigrationParts parts, ILogger<MigrationRunner> logger) : IDisposable
{
    private static readonly TimeSpan DefectDelay = TimeSpan.FromSeconds(30);

    private readonly Channel<MigrationRow> _queue = Channel.CreateUnbounded<MigrationRow>();
    private readonly ConcurrentDictionary<Id16, CancellationTokenSource> _cancellations = new();

    /// <summary>Stores a migration whose job is stored already, and begins it; once, however often it is asked for.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the machine is being migrated already; the job has failed.</exception>
    public async ValueTask StartAsync(MigrationRow row, CancellationToken cancellationToken)
    {
        try
        {
            if (!await parts.Catalog.Migrations.AddAsync(row, cancellationToken))
            {
                return;
            }
        }
        catch (FaultException refused)
        {
            await parts.Jobs.FinishAsync(row.MigrationId, JobPhase.Failed, [], refused.Message, refused.Reason, cancellationToken);
            throw;
        }
        Enqueue(row);
    }

    /// <summary>Takes up what was under way. After the jobs are loaded, before the first call.</summary>
    public async ValueTask LoadAsync(CancellationToken cancellationToken)
    {
        foreach (var row in await parts.Catalog.Migrations.ListActiveAsync(cancellationToken))
        {
            parts.Owners.Set(row.VmId, row.Step == MigrationStep.RemovingSource ? row.TargetAgent : row.SourceAgent);
            Enqueue(row);
        }
        foreach (var job in (await parts.Catalog.Jobs.ListActiveAsync(cancellationToken)).Where(static job => job.Kind == JobKind.Migration))
        {
            var row = await parts.Catalog.Migrations.FindAsync(job.JobId, cancellationToken);
            if (row is not { State: JobPhase.Running })
            {
                // The controller ended between the two, at the begin or at the end.
                await parts.Jobs.FinishAsync(job.JobId, row?.State ?? JobPhase.Failed, row?.Result ?? [], row?.Failure ?? "The controller was restarted before the migration began: start it again.",
                    row?.FailureReason ?? FaultReason.Unavailable, cancellationToken);
            }
            else if (job.CancelRequested)
            {
                Cancel(job.JobId);
            }
        }
    }

    /// <summary>Has a migration go back. One that has started the target goes on; nothing happens to other jobs.</summary>
    public void Cancel(Id16 migrationId)
    {
        if (_cancellations.TryGetValue(migrationId, out var source))
        {
            source.Cancel();
        }
    }

    /// <summary>Runs migrations until cancelled; they go on when the controller runs again.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        var running = new List<Task>();
        try
        {
            await foreach (var row in _queue.Reader.ReadAllAsync(cancellationToken))
            {
                running.RemoveAll(static task => task.IsCompleted);
                running.Add(RunAsync(row, cancellationToken));
            }
        }
        finally
        {
            await Task.WhenAll(running).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    public void Dispose()
    {
        foreach (var source in _cancellations.Values)
        {
            source.Dispose();
        }
    }

    private void Enqueue(MigrationRow row)
    {
        _cancellations[row.MigrationId] = new CancellationTokenSource();
        parts.Owners.Set(row.VmId, row.Step == MigrationStep.RemovingSource ? row.TargetAgent : row.SourceAgent);
        _queue.Writer.TryWrite(row);
    }

    private async Task RunAsync(MigrationRow first, CancellationToken stopping)
    {
        await Task.Yield();
        var cancellation = _cancellations[first.MigrationId];
        try
        {
            // Half a migration must not be given up for a defect: both hosts have a copy.
            await Insistence.RunAsync(
                async () => await new MigrationRun(parts, await parts.Catalog.Migrations.FindAsync(first.MigrationId, stopping) ?? first, cancellation.Token).RunAsync(stopping),
                defect => LogDefect(defect, first.MigrationId), DefectDelay, parts.Time, stopping);
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested)
        {
            return;
        }
        _cancellations.TryRemove(first.MigrationId, out _);
        cancellation.Dispose();
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Migration {MigrationId} met a defect, and is taken up again.")]
    private partial void LogDefect(Exception defect, Id16 migrationId);
}

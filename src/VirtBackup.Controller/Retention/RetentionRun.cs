using Google.Protobuf.Collections;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Retention;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository.Points;

namespace VirtBackup.Controller.Retention;

/// <summary>
/// Forgets what the rules let go, one run at a time. Everything is looked at anew before each point goes, so that a hold, a
/// verification or a backup that came in between counts; locks and holds once more while nobody can place one. A point that cannot go does not keep others. Safe for concurrent use.
/// </summary>
public sealed partial class RetentionRun(
    PointGathering gathering, PointCustody custody, PointLocks locks, CatalogDatabase catalog, ITrustedClock clock, ILogger<RetentionRun> logger) : IDisposable
{
    /// <summary>Points that a result names one by one.</summary>
    private const int NamedMax = 10_000;

    private readonly SemaphoreSlim _running = new(1, 1);

    /// <param name="vmId">Only this machine; null: all.</param>
    /// <param name="note">Told of every point that goes or fails to.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the time is not confirmed.</exception>
    public async ValueTask<RetentionResult> RunAsync(Id16? vmId, Func<string, ValueTask> note, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(note);
        await _running.WaitAsync(cancellationToken);
        try
        {
            var result = new RetentionResult();
            var locked = await locks.ListAsync(cancellationToken);
            foreach (var machine in vmId is { } id ? [id] : await catalog.Points.ListMachinesAsync(cancellationToken))
            {
                await RunAsync(machine, locked, result, note, cancellationToken);
            }
            return result;
        }
        finally
        {
            _running.Release();
        }
    }

    public void Dispose() => _running.Dispose();

    private async ValueTask RunAsync(Id16 vmId, IReadOnlyDictionary<Id16, long> locked, RetentionResult result, Func<string, ValueTask> note, CancellationToken cancellationToken)
    {
        var failed = new HashSet<Id16>();
        while (true)
        {
            var now = await RequireTimeAsync(cancellationToken);
            var machine = await gathering.ReadAsync(vmId, locked, cancellationToken);
            var verdicts = RetentionEvaluation.Run(machine.Rules, machine.Points, now);
            // The oldest first: whatever ends a run early, the newer points are there.
            var expired = verdicts.LastOrDefault(verdict => verdict.Expires && !failed.Contains(verdict.Point.Id));
            if (expired is null)
            {
                result.PointsKept += (ulong)(verdicts.Count - failed.Count);
                return;
            }
            var row = machine.Rows.First(row => row.PointId == expired.Point.Id);
            var why = $"no rule of '{machine.RuleSet!.RuleSet.Name}' ({machine.Rules}) keeps it";
            if (await TryForgetAsync(row, cancellationToken) is { } fault)
            {
                failed.Add(row.PointId);
                LogFailed(row.PointId, row.VmName, row.Sequence, fault.Message);
                Add(result.Failed, row, fault.Message);
                result.FailedTotal++;
                await note($"Recovery point {row.PointId} ({row.VmName}@{row.Sequence}) should have expired, but: {fault.Message}");
            }
            else
            {
                LogExpired(row.PointId, row.VmName, row.Sequence, ToText(row.CreatedMs), why);
                Add(result.Expired, row, why);
                result.ExpiredTotal++;
                await note($"Recovery point {row.PointId} ({row.VmName}@{row.Sequence} of {ToText(row.CreatedMs)}) expired: {why}.");
            }
        }
    }

    private async ValueTask<FaultException?> TryForgetAsync(PointRow row, CancellationToken cancellationToken)
    {
        try
        {
            await custody.ForgetAsync(row, cancellationToken);
            return null;
        }
        catch (FaultException fault)
        {
            return fault;
        }
    }

    private async ValueTask<long> RequireTimeAsync(CancellationToken cancellationToken)
    {
        var now = await clock.ReadAsync(cancellationToken);
        return now.MayExpire
            ? now.NowMs
            : throw new FaultException(
                FaultReason.FailedPrecondition, "The controller's clock jumped ahead, so nothing expires until the time is confirmed: virtbackup controller confirm-time.");
    }

    private static void Add(RepeatedField<ExpiredPoint> list, PointRow row, string reason)
    {
        if (list.Count < NamedMax)
        {
            list.Add(new ExpiredPoint { PointId = row.PointId.ToString(), VmName = row.VmName, CreateTime = WireText.ToTimestamp(row.CreatedMs), Reason = reason });
        }
    }

    private static string ToText(long ms) => $"{DateTimeOffset.FromUnixTimeMilliseconds(ms):yyyy-MM-dd HH:mm:ss} UTC";

    [LoggerMessage(Level = LogLevel.Information, Message = "Recovery point {Point} ({Vm}@{Sequence} of {Created}) expired: {Why}.")]
    private partial void LogExpired(Id16 point, string vm, long sequence, string created, string why);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Recovery point {Point} ({Vm}@{Sequence}) should have expired, but: {Reason}")]
    private partial void LogFailed(Id16 point, string vm, long sequence, string reason);
}

using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Records;
using VirtBackup.Agent.State;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Hypervisors;
using VirtBackup.Sealing;

namespace VirtBackup.Agent.Auditing;

/// <summary>
/// The audit of change tracking as a step of a backup run: what is due is chosen before the cut, read and compared after it.
/// A disk whose tracking has missed a change is read in full by the same run, so that its point is right.
/// </summary>
/// <param name="basis">The point whose changes the run reads; null: it reads everything, and nothing is to be audited.</param>
/// <param name="nodes">The map of that point.</param>
internal sealed class TrackingAudit(BackupContext context, Id16 machine, BaseRecord? basis, AuditOptions options, NodeSource? nodes, RunProgress progress)
{
    private readonly AuditPlan? _plan = basis is not null && options.Runs > 0 ? AuditPlan.Make(basis, options, context.Tools.Entropy) : null;
    private readonly Dictionary<Id16, DiskAudit> _audits = [];
    private bool _isCutAnew;

    /// <summary>What was audited; null: nothing was to be.</summary>
    public AuditStatistics? Statistics { get; private set; }

    /// <summary>What should be readable although it did not change.</summary>
    public IReadOnlyDictionary<Id16, IReadOnlyList<ByteRange>> Ranges => _plan?.Ranges() ?? new Dictionary<Id16, IReadOnlyList<ByteRange>>();

    /// <summary>Audits the captured disks.</summary>
    /// <param name="held">Cut anew without a base if a change was missed and the view cannot be read as a whole.</param>
    /// <param name="read">Reads from a disk, at the run's pace.</param>
    /// <param name="cutAnew">Begins such a capture.</param>
    public async Task RunAsync(
        HeldCapture held, ChunkKeys keys, Func<ICapturedDisk, long, Memory<byte>, CancellationToken, ValueTask> read, Func<ValueTask<ICapture>> cutAnew,
        CancellationToken cancellationToken)
    {
        if (_plan is null || nodes is null)
        {
            return;
        }
        var tracked = held.Current.Disks.Where(disk => disk.ChangedOnly && _plan.Disks.TryGetValue(disk.Disk.Id, out var plan) && plan.Base.LengthBytes == disk.Disk.LengthBytes).ToList();
        var unreadable = tracked.Where(static disk => disk.Reach == ReadReach.ListedExtents).Select(static disk => disk.Disk.Name).ToList();
        foreach (var disk in tracked.Where(static disk => disk.Reach != ReadReach.ListedExtents))
        {
            var plan = _plan.Disks[disk.Disk.Id];
            _audits.Add(disk.Disk.Id, new DiskAudit(disk, plan, new BaseLeaves(nodes, plan.Geometry, plan.Base.Root), keys, async (offset, target, token) =>
            {
                await read(disk, offset, target, token);
                progress.AddAudited(target.Length);
            }));
        }
        var omitted = unreadable.Count == 0 ? null : $"the hypervisor lets only changed blocks be read of {string.Join(", ", unreadable)}, so that nothing of it can be audited";
        if (_audits.Count == 0)
        {
            Statistics = omitted is null ? null : new AuditStatistics { Runs = _plan.Options.Runs, Omitted = omitted };
        }
        else
        {
            progress.Enter("auditing");
            var run = new AuditRun(_plan, [.. _audits.Values], context.Tools.Time) { Omitted = omitted };
            await run.RunAsync(cancellationToken);
            Statistics = run.Describe();
        }
        foreach (var line in Statistics is null ? [] : AuditText.Describe(Statistics))
        {
            progress.Log(line);
        }
        if (Statistics is { Misses: > 0 })
        {
            await DistrustAsync(held, cutAnew, cancellationToken);
        }
    }

    /// <summary>The disk as the run is to read it.</summary>
    public ICapturedDisk SourceOf(ICapturedDisk disk) => _isCutAnew || (_audits.TryGetValue(disk.Disk.Id, out var audit) && audit.HasMissed) ? new DistrustedDisk(disk) : disk;

    /// <summary>Where the rotation of a disk stands when the run's point is committed; null: a new one begins.</summary>
    public AuditRotation? RotationAfter(ICapturedDisk source) =>
        !source.ChangedOnly ? null
        : _audits.TryGetValue(source.Disk.Id, out var audit) ? audit.Plan.After(audit.Taken)
        : basis?.Disks.FirstOrDefault(disk => disk.Disk == source.Disk.Id)?.Rotation;

    /// <summary>The base with what was found out about it.</summary>
    public BaseRecord Judge(BaseRecord record) => Statistics is { Misses: > 0 } found && record.Point == basis?.Point ? record with { Suspicion = found.Miss } : record;

    private async Task DistrustAsync(HeldCapture held, Func<ValueTask<ICapture>> cutAnew, CancellationToken cancellationToken)
    {
        progress.CountMisses(Statistics!.Misses);
        progress.Log($"ALERT: change tracking missed a change: {Statistics.Miss}. It had changed but was called unchanged. Earlier recovery points of this chain may lack changes.");
        // Before anything else: should this run not get its point, the next one reads everything.
        var remembered = await context.Bases.LoadAsync(machine, cancellationToken);
        await context.Bases.SaveAsync(machine, [.. remembered.Select(Judge)], cancellationToken);
        if (_audits.Values.Any(static audit => audit is { HasMissed: true, Source.Reach: not ReadReach.Everything }))
        {
            progress.Log("This run cuts anew and reads all disks in full, so that its recovery point is right.");
            _isCutAnew = true;
            await held.ReplaceAsync(cutAnew, cancellationToken);
            return;
        }
        progress.Log($"This run reads {string.Join(", ", _audits.Values.Where(static audit => audit.HasMissed).Select(static audit => audit.Source.Disk.Name))} in full, so that its recovery point is right.");
    }
}

using System.Security.Cryptography;
using VirtBackup.Agent.Auditing;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Guests;
using VirtBackup.Agent.Records;
using VirtBackup.Agent.State;
using VirtBackup.Agent.Upload;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;
using VirtBackup.Sealing;

namespace VirtBackup.Agent.Capture;

/// <summary>What backup runs of this agent share.</summary>
/// <param name="Signer">The agent's manifest signing key.</param>
/// <param name="SignerId">Its key id.</param>
public sealed record BackupContext(
    string AgentName, IStoreTransport Store, IBaseStore Bases, VmKeyRing VmKeys, ECDsa Signer, Id16 SignerId, CaptureTools Tools)
{
    /// <summary>Null: what an interrupted restore leaves is not removed.</summary>
    public IRestoreNotes? RestoreNotes { get; init; }

    /// <summary>Which maps the disks hold of machines that were restored and are off; null: later restores onto them compare all.</summary>
    public IBaseStore? Restored { get; init; }
}

/// <summary>
/// One backup: settle what broke off before → cut → read and send → commit → let the view go. Until the commit there is
/// no recovery point; after it nothing can lose it.
/// </summary>
public sealed class BackupRun
{
    private static readonly TimeSpan ReleaseMax = TimeSpan.FromMinutes(5);

    private readonly BackupContext _context;
    private readonly IHypervisor _hypervisor;
    private readonly Job _job;
    private readonly Id16 _machine;
    private readonly Id16 _point;
    private readonly RunProgress _progress;
    private readonly long _started;
    private bool _cutAnew;

    public BackupRun(BackupContext context, IHypervisor hypervisor, Job job, Id16 machine, Id16 point, RunProgress progress)
    {
        ArgumentNullException.ThrowIfNull(context);
        _context = context;
        _hypervisor = hypervisor;
        _job = job;
        _machine = machine;
        _point = point;
        _progress = progress;
        _started = context.Tools.Time.GetTimestamp();
    }

    /// <summary>Where the cut waits for other machines; null: it is made by itself.</summary>
    public ICutGate? Gate { get; init; }

    /// <exception cref="FaultException">There is no recovery point, and the machine is as it was.</exception>
    public async Task<BackupResult> RunAsync(CancellationToken cancellationToken)
    {
        _progress.Enter("settling");
        var options = _job.Backup.Options ?? new Protocol.Common.V1.BackupOptions();
        var policy = _context.Tools.Guests.Of(_machine).With(options);
        await using var impact = await GuestImpactWatch.OpenAsync(_hypervisor, _machine, policy.Budget, _progress, _context.Tools.Time, cancellationToken);
        var settled = await new BaseChoice(_context, _hypervisor, _machine, _progress).ChooseAsync(_point, cancellationToken);
        if (settled.IsCommitted)
        {
            return BackupOutcome.OfEarlier(_point, _progress);
        }
        var extents = ToldExtents.Read(options.ChangedExtents);
        if (options.Full)
        {
            settled = settled with { Tracked = null };
        }
        else if (extents.Count > 0)
        {
            // Told changes are changes since the newest point of this agent.
            settled = settled with { Tracked = settled.Base?.Point };
        }
        if (settled.Tracked is not null && settled.Base!.Suspicion is { } suspicion)
        {
            _progress.Log($"An audit has found that change tracking missed a change ({suspicion}): all blocks are read.");
            settled = settled with { Tracked = null };
        }
        if (settled.Tracked is not null && settled.Base!.Disks.Any(disk => disk.Shape != _context.Tools.Shape && disk.Shape != StateStreams.Shape))
        {
            _progress.Log("Disks are cut in another way than before: all blocks are read once.");
            settled = settled with { Tracked = null };
        }
        var purpose = new SessionPurpose(_job.JobId, _job.Attempt, _machine, _point, settled.Base?.Point);
        using var session = await BeginSessionAsync(purpose, cancellationToken);
        if (session is null)
        {
            return BackupOutcome.OfEarlier(_point, _progress);
        }
        var commitSent = false;
        try
        {
            if (impact is not null)
            {
                await impact.EndBaselineAsync(cancellationToken);
            }
            _progress.Enter("cutting");
            var audit = PlanAudit(options, settled);
            var request = new CaptureRequest(_machine, _point, settled.Tracked, options.ExcludedDisks.ToHashSet(StringComparer.Ordinal))
            {
                Quiesce = !options.SkipQuiesce,
                WithState = StateStreams.ModeOf(options.State),
                QuiesceTimeout = policy.QuiesceTimeout,
                FreezeLimit = policy.FreezeLimit,
                Hooks = policy.Hooks,
                Gate = Gate,
                Log = _progress.Log,
                ChangedExtents = extents,
                AlsoReadable = audit.Ranges,
                BaseTokens = settled.Base?.BaseTokens ?? new Dictionary<Id16, string>(),
            };
            // Disposing folds the tracking back into the base.
            await using (var held = new HeldCapture(await BeginCaptureAsync(request, cancellationToken)))
            {
                _progress.Log($"Cut: {held.Current.ConsistencyDetail}");
                try
                {
                    var (result, record) = await CaptureAsync(held, request, session, settled, audit, options.ReadBytesPerSecondMax, impact, () => commitSent = true, cancellationToken);
                    await FinishAsync(held.Current, record);
                    return result;
                }
                catch (Exception exception) when (commitSent && IsOutcomeUnknown(exception))
                {
                    // The point may exist: tracking since both points stays until the next run has asked the controller.
                    await DetachAsync(held.Current);
                    throw;
                }
            }
        }
        catch
        {
            await TryAbandonAsync(session);
            throw;
        }
    }

    /// <returns>Null: a commit of an earlier attempt has come through since the machine was settled.</returns>
    private async Task<StoreSession?> BeginSessionAsync(SessionPurpose purpose, CancellationToken cancellationToken)
    {
        try
        {
            return await StoreSession.BeginAsync(_context.Store, purpose, _context.Tools.Time, _context.Tools.Entropy, _progress, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.AlreadyExists)
        {
            return null;
        }
    }

    private async Task<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        using var urgent = _context.Tools.BeginUrgent?.Invoke();
        return await _hypervisor.BeginCaptureAsync(request, cancellationToken);
    }

    private TrackingAudit PlanAudit(Protocol.Common.V1.BackupOptions options, SettledBase settled)
    {
        var basis = settled.Tracked is null ? null : settled.Base;
        return new TrackingAudit(_context, _machine, basis, _context.Tools.Audit.With(options.Audit), basis is null ? null : NodesOf(basis), _progress);
    }

    private async Task<(BackupResult Result, BaseRecord Record)> CaptureAsync(
        HeldCapture held, CaptureRequest request, StoreSession session, SettledBase settled, TrackingAudit audit, ulong rateMax, GuestImpactWatch? impact,
        Action commitSent, CancellationToken cancellationToken)
    {
        RequireDisks(held.Current);
        StateStreams.Require(request, held.Current);
        var vmKey = _context.VmKeys.Get(_machine);
        using var idKey = ReadIdKey(session.Current);
        using var chunkKeys = idKey.DeriveChunkKeys();
        var rate = new ReadRateLimit((long)Math.Min(rateMax, long.MaxValue), _context.Tools.Time);
        using var pipeline = new CapturePipeline(_context.Tools, session, chunkKeys, vmKey, rate, impact?.Limit, _progress);
        DiskRun[] disks = [];
        long audited = 0;
        if (impact is not null)
        {
            await impact.BeginReadingAsync(cancellationToken);
        }
        using var loops = new LoopGroup(cancellationToken);
        using var read = CancellationTokenSource.CreateLinkedTokenSource(loops.Token);
        loops.Start(session.RunLanesAsync);
        if (impact is not null)
        {
            loops.Start(_ => impact.GovernAsync(() => Interlocked.Read(ref audited) + disks.Sum(disk => disk.BytesRead), read.Token));
        }
        loops.Start(async token =>
        {
            // Beside the lanes, which notice when the session has to be replaced.
            await PutKeyAsync(session, vmKey, token);
            await audit.RunAsync(held, chunkKeys, ReadToAuditAsync, () => CutAnewAsync(request, token), token);
            disks =
            [
                .. held.Current.Disks.Select(disk => Open(audit.SourceOf(disk), StreamKind.Disk, session, settled)),
                .. held.Current.Contents.Select(content => Open(new CapturedContent(content), content.Kind == MachineContentKind.Nvram ? StreamKind.Nvram : StreamKind.Tpm, session, settled)),
                .. StateStreams.Of(held.Current).Select(stream => Open(stream.Source, stream.Kind, session, settled)),
            ];
            _progress.Enter("reading");
            await pipeline.RunAsync(disks, token);
            session.Data.Complete();
            session.Map.Complete();
            await read.CancelAsync();
        });
        await loops.WhenAllAsync();
        cancellationToken.ThrowIfCancellationRequested();

        async ValueTask ReadToAuditAsync(ICapturedDisk disk, long offset, Memory<byte> target, CancellationToken token)
        {
            await rate.WaitAsync(target.Length, token);
            await _context.Tools.SharedRate.WaitAsync(target.Length, token);
            if (impact is not null)
            {
                await impact.Limit.WaitAsync(target.Length, token);
            }
            await disk.ReadAsync(offset, target, token);
            Interlocked.Add(ref audited, target.Length);
        }

        var fared = impact is null ? null : await impact.SummariseAsync(cancellationToken);
        _progress.Enter("committing");
        var epochs = new SortedSet<Id16>(pipeline.Epochs) { vmKey.EpochId };
        if (settled.Base is { } basis)
        {
            epochs.UnionWith(basis.Epochs);
        }
        BaseRecord? record = null;
        commitSent();
        await session.CommitAsync(
            async (current, token) =>
            {
                var bytes = new ManifestWriter(_context, _hypervisor.Kind, held.Current, disks, [.. epochs], audit.Statistics, _progress, _started).Write(current, _job.Attempt, _machine, _point, vmKey);
                record = new BaseRecord(_point, Manifest.Parse(bytes).Hash, [.. disks.Select(disk => Remember(disk, audit))], [.. epochs]);
                // Both are kept until the outcome is known for certain.
                await _context.Bases.SaveAsync(_machine, settled.Base is { } former ? [record, audit.Judge(former)] : [record], token);
                return bytes;
            },
            cancellationToken);
        return (BackupOutcome.Of(_point, held.Current, disks, _progress.BytesSent, fared, _cutAnew), record!);
    }

    private static void RequireDisks(ICapture capture)
    {
        if (capture.Disks.Count == 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {capture.Configuration.Name} has no disk that can be captured: {string.Join("; ", capture.SkippedDisks.Select(disk => $"{disk.Name}: {disk.SkipReason}"))}.");
        }
    }

    private async ValueTask<ICapture> CutAnewAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        // The others of a group have gone on long since.
        var capture = await BeginCaptureAsync(request with { Base = null, ChangedExtents = ToldExtents.Read([]), Gate = null }, cancellationToken);
        _cutAnew = true;
        _progress.Log($"Cut anew: {capture.ConsistencyDetail}");
        return capture;
    }

    private static BaseDisk Remember(DiskRun disk, TrackingAudit audit) =>
        new(disk.Source.Disk.Id, disk.Geometry.StreamLength, disk.Geometry.Shape, disk.Map.Root, disk.Source.BaseToken) { Rotation = audit.RotationAfter(disk.Source) };

    private NodeSource NodesOf(BaseRecord basis) => new(_context.Store, _job.JobId, _job.Attempt, basis.Point, _context.Tools.Time, _context.Tools.Entropy);

    private static bool IsOutcomeUnknown(Exception exception) =>
        exception is OperationCanceledException or FaultException { Reason: FaultReason.Unavailable or FaultReason.SessionExpired };

    // The machine does not track changes since the former base any more. While it may, the record is what finds that tracking.
    private async Task ForgetFormerBaseAsync(BaseRecord record)
    {
        try
        {
            await _context.Bases.SaveAsync(_machine, [record], CancellationToken.None);
        }
        catch (FaultException fault)
        {
            _progress.Log($"The former base is still remembered, which does no harm: {fault.Message}");
        }
    }

    // The point exists: whatever happens from here on, and whoever cancels, it is the run's outcome.
    private async Task FinishAsync(ICapture capture, BaseRecord record)
    {
        _progress.Enter("releasing");
        using var limit = new CancellationTokenSource(ReleaseMax, _context.Tools.Time);
        try
        {
            await capture.CommitAsync(limit.Token);
        }
        catch (Exception exception) when (exception is FaultException or OperationCanceledException)
        {
            // The next run settles what is left.
            _progress.Log($"The machine could not be tidied up and will be at the next run: {exception.Message}");
            await DetachAsync(capture);
            return;
        }
        await ForgetFormerBaseAsync(record);
    }

    // Folding the tracking back would be wrong when the point exists, or may.
    private async Task DetachAsync(ICapture capture)
    {
        try
        {
            await capture.DetachAsync(CancellationToken.None);
        }
        catch (FaultException fault)
        {
            _progress.Log($"The machine keeps its view until the next run: {fault.Message}");
        }
    }

    private async Task TryAbandonAsync(StoreSession session)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(5), _context.Tools.Time);
        try
        {
            await session.AbandonAsync(limit.Token);
        }
        catch (Exception exception) when (exception is FaultException or OperationCanceledException)
        {
            // Its lease ends the session anyway.
        }
    }

    private async Task PutKeyAsync(StoreSession session, VmKey vmKey, CancellationToken cancellationToken)
    {
        var recipient = AgreementPublicKey.FromSubjectPublicKeyInfo(session.Current.RestorePublicKey.Span);
        await session.PutKeyAsync(_context.VmKeys.Seal(vmKey, Id16.Parse(session.Current.RepositoryId), _machine, recipient), cancellationToken);
    }

    private DiskRun Open(ICapturedDisk disk, StreamKind kind, StoreSession session, SettledBase settled)
    {
        var shape = StateStreams.ShapeOf(kind, _context.Tools.Shape);
        var geometry = new MapGeometry(shape, disk.Disk.LengthBytes);
        var known = settled.Base?.Disks.FirstOrDefault(candidate => candidate.Disk == disk.Disk.Id && candidate.LengthBytes == disk.Disk.LengthBytes && candidate.Shape == shape);
        if (disk.ChangedOnly && known is null)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"Disk {disk.Disk.Name} offers changed blocks only, but its base is not known to this agent. Run the backup with --full.");
        }
        var nodes = known is null ? null : NodesOf(settled.Base!);
        var map = new MapAssembler(geometry, disk.ChangedOnly, known?.Root ?? Id32.Zero, nodes, (id, node, token) => AppendNodeAsync(session, id, node, token));
        return new DiskRun(disk, kind, geometry, map);
    }

    private static async ValueTask AppendNodeAsync(StoreSession session, Id32 id, byte[] node, CancellationToken cancellationToken)
    {
        var header = Format.Records.RecordHeader.ForNode(id, node.Length);
        var record = new byte[header.RecordLength];
        header.Write(record);
        node.CopyTo(record, Format.Records.RecordHeader.Size);
        await session.Map.AppendAsync(record, cancellationToken);
    }

    private static IdKey ReadIdKey(BeginSessionResponse session)
    {
        if (session.IdKey.Length != IdKey.Size || session.IdGeneration > ushort.MaxValue)
        {
            throw FaultException.Malformed("The controller handed out a chunk-id key of the wrong form.");
        }
        return new IdKey(Id16.Parse(session.ScopeId), (ushort)session.IdGeneration, session.IdKey.Span);
    }
}

using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Signals;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Repository;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Store;

/// <summary>Commits recovery points: proves who signed, what hangs below, that it can be opened, and then lists it. Safe for concurrent use.</summary>
public sealed partial class CommitService(
    SessionRegistry sessions, BackupRepository repository, Keyholder keyholder, PointDescriber describer, CatalogDatabase catalog, RunSignals signals, TrackingAlerts alerts,
    TrafficLog traffic, ILogger<CommitService> logger)
{
    public async ValueTask<CommitRecoveryPointResponse> CommitAsync(Caller caller, CommitRecoveryPointRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        ArgumentNullException.ThrowIfNull(request);
        var session = sessions.Require(caller, request.SessionId);
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, session.Ended);
        try
        {
            await session.Committing.WaitAsync(scope.Token);
        }
        catch (OperationCanceledException) when (session.Ended.IsCancellationRequested)
        {
            throw new FaultException(FaultReason.SessionExpired, "The session is over: open a new one.");
        }
        try
        {
            // The attempt may have been fenced while this commit waited for another.
            _ = sessions.Require(caller, request.SessionId);
            return await CommitAsync(caller, session, request.Manifest.Memory, cancellationToken);
        }
        finally
        {
            session.Touch();
            session.Committing.Release();
        }
    }

    private async ValueTask<CommitRecoveryPointResponse> CommitAsync(Caller caller, WriteSession session, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        var manifest = Manifest.Parse(bytes);
        var agent = await catalog.Agents.FindAsync(caller.Name, cancellationToken)
            ?? throw new FaultException(FaultReason.Denied, $"The agent '{caller.Name}' is not enrolled.");
        ManifestSealing.VerifySignature(manifest, agent.SigningKey);
        using var keys = new OpenedKeys(keyholder);
        var audit = (await RequireReadableAsync(manifest, keys, cancellationToken)).Audit;
        // What came before an abnormal run is held before the run is there to be kept instead of it.
        var run = await signals.JudgeAsync(manifest.Head, session.Ingest.ChunkBytes, audit, cancellationToken);
        var result = await repository.CommitAsync(session.Ingest, bytes, session.Expectation, new LeafInspector(keys), cancellationToken);
        session.IsCommitted = true;
        await ListAsync(manifest, result.StoredBytes);
        await signals.NoteCommittedAsync(run, session.JobId, CancellationToken.None);
        await alerts.NoteCommittedAsync(manifest.Head, audit, CancellationToken.None);
        LogCommitted(manifest.Head.Point, manifest.Head.Sequence, manifest.Head.Vm, caller.Name, result.StoredBytes);
        traffic.Tell($"recovery point {manifest.Head.Point} was made", session.TrafficBefore);
        return new CommitRecoveryPointResponse { ManifestHash = ByteString.CopyFrom(result.ManifestHash.ToArray()), StoredBytes = (ulong)result.StoredBytes };
    }

    /// <summary>Every key opens and the body too: what cannot be read later is refused now.</summary>
    private static async ValueTask<ManifestBody> RequireReadableAsync(Manifest manifest, OpenedKeys keys, CancellationToken cancellationToken)
    {
        VmKey body;
        try
        {
            foreach (var epoch in manifest.Head.Epochs)
            {
                _ = await keys.GetAsync(manifest.Head.Vm, epoch, cancellationToken);
            }
            body = await keys.GetAsync(manifest.Head.Vm, manifest.Head.BodyEpoch, cancellationToken);
        }
        catch (FaultException missing) when (missing.Reason == FaultReason.NotFound)
        {
            throw new FaultException(FaultReason.Incomplete, $"The recovery point {manifest.Head.Point} uses a key that was never stored. Run the backup again.", missing);
        }
        return ManifestSealing.Open(manifest, body);
    }

    private async ValueTask ListAsync(Manifest manifest, long storedBytes)
    {
        // The point exists, whether its agent still waits or not; a catalog that misses it is corrected at the next start.
        try
        {
            await catalog.Points.SaveAsync(await describer.DescribeAsync(manifest, storedBytes, CancellationToken.None), CancellationToken.None);
        }
        catch (FaultException failure)
        {
            LogNotListed(failure, manifest.Head.Point);
            throw;
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Recovery point {Point} (number {Sequence}) of virtual machine {Vm} was committed by agent {Agent}: {StoredBytes} bytes stored.")]
    private partial void LogCommitted(Id16 point, long sequence, Id16 vm, string agent, long storedBytes);

    [LoggerMessage(Level = LogLevel.Error, Message = "Recovery point {Point} was committed, but the catalog could not take it.")]
    private partial void LogNotListed(Exception failure, Id16 point);
}

using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Controller.Signals;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;
using VirtBackup.Repository;
using VirtBackup.Sealing;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Controller.Store;

/// <summary>
/// The store service: every call of an agent, checked against the job it was assigned. An agent acts on its own jobs'
/// machines and nothing else. Safe for concurrent use.
/// </summary>
public sealed class StoreEndpoint
{
    private const int PointIdsMax = 256;

    private readonly BackupRepository _repository;
    private readonly CatalogDatabase _catalog;
    private readonly Keyholder _keyholder;
    private readonly JobService _jobs;
    private readonly SessionRegistry _sessions;
    private readonly CommitService _commits;
    private readonly UploadService _uploads;
    private readonly ReadingService _reading;

    public StoreEndpoint(
        BackupRepository repository, IObjectStore store, CatalogDatabase catalog, Keyholder keyholder, JobService jobs, SessionRegistry sessions,
        PointDescriber describer, RunSignals signals, TrackingAlerts alerts, IEntropy entropy, TimeProvider time, ILogger<CommitService> logger)
    {
        _repository = repository;
        _catalog = catalog;
        _keyholder = keyholder;
        _jobs = jobs;
        _sessions = sessions;
        _commits = new CommitService(sessions, repository, keyholder, describer, catalog, signals, alerts, logger);
        _uploads = new UploadService(sessions, time);
        _reading = new ReadingService(repository, store, keyholder, catalog, jobs, entropy, time);
    }

    public async ValueTask<FindRecoveryPointsResponse> FindRecoveryPointsAsync(Caller caller, FindRecoveryPointsRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.PointIds.Count > PointIdsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A call asks for at most {PointIdsMax} recovery points.");
        }
        var vm = WireText.ToId(request.VmId, "id of the virtual machine");
        await RequireMachineAsync(caller, vm, cancellationToken);
        var response = new FindRecoveryPointsResponse();
        foreach (var text in request.PointIds)
        {
            if (await _repository.FindPointAsync(WireText.ToId(text, "id of a recovery point"), cancellationToken) is { IsComplete: true } info && info.Vm == vm)
            {
                response.CommittedPointIds.Add(text);
            }
        }
        return response;
    }

    public ValueTask<BeginSessionResponse> BeginSessionAsync(Caller caller, BeginSessionRequest request, CancellationToken cancellationToken) =>
        _sessions.BeginAsync(caller, request, cancellationToken);

    public async ValueTask<PutKeyResponse> PutKeyAsync(Caller caller, PutKeyRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var session = _sessions.Require(caller, request.SessionId);
        var key = KeyObject.Parse(request.KeyObject.Span);
        if (key.Vm != session.Expectation.Vm)
        {
            throw new FaultException(FaultReason.Denied, "The key is for another virtual machine than the session's.");
        }
        var origin = session.Expectation.Origin;
        if (key.Recipient != KeyId.Compute((origin.IsEmpty ? _keyholder.RestorePublicKey : _keyholder.FindRestorePublicKey(origin)).Span))
        {
            throw new FaultException(FaultReason.Denied, "The key is not sealed to this repository's restore key.");
        }
        await _repository.PutKeyAsync(request.KeyObject.Memory, origin, cancellationToken);
        return new PutKeyResponse();
    }

    public async ValueTask<ProbeChunksResponse> ProbeChunksAsync(Caller caller, ProbeChunksRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var session = _sessions.Require(caller, request.SessionId);
        var kind = request.Kind switch
        {
            RecordKind.Data => Format.Records.RecordKind.Data,
            RecordKind.Map => Format.Records.RecordKind.Map,
            _ => throw new FaultException(FaultReason.InvalidArgument, "A probe must say whether it asks for chunks or map nodes."),
        };
        var bitmap = await _repository.ProbeAsync(kind, session.Ingest, request.Ids.Memory, cancellationToken);
        return new ProbeChunksResponse
        {
            PresentBitmap = Google.Protobuf.UnsafeByteOperations.UnsafeWrap(bitmap),
            PinGeneration = (ulong)session.Expectation.Generation,
        };
    }

    public Task UploadRecordsAsync(Caller caller, IServerDuplex<UploadRecordsRequest, UploadRecordsResponse> stream, CancellationToken cancellationToken) =>
        _uploads.UploadAsync(caller, stream, cancellationToken);

    public ValueTask<CommitRecoveryPointResponse> CommitRecoveryPointAsync(Caller caller, CommitRecoveryPointRequest request, CancellationToken cancellationToken) =>
        _commits.CommitAsync(caller, request, cancellationToken);

    public async ValueTask<AbandonSessionResponse> AbandonSessionAsync(Caller caller, AbandonSessionRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        await _sessions.AbandonAsync(caller, request.SessionId);
        return new AbandonSessionResponse();
    }

    public ValueTask<ReadManifestResponse> ReadManifestAsync(Caller caller, ReadManifestRequest request, CancellationToken cancellationToken) =>
        _reading.ReadManifestAsync(caller, request, cancellationToken);

    /// <summary>Slices of the record stream; each is the receiver's to dispose.</summary>
    public IAsyncEnumerable<PooledSlice> ReadMapNodesAsync(Caller caller, ReadMapNodesRequest request, CancellationToken cancellationToken) =>
        _reading.ReadNodesAsync(caller, request, cancellationToken);

    /// <inheritdoc cref="ReadMapNodesAsync"/>
    public IAsyncEnumerable<PooledSlice> ReadRecordsAsync(Caller caller, ReadRecordsRequest request, CancellationToken cancellationToken) =>
        _reading.ReadRecordsAsync(caller, request, cancellationToken);

    /// <summary>Ends what agents have left open, until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        // Neither comes to its end by itself.
        await await Task.WhenAny(_sessions.RunAsync(cancellationToken), _reading.RunAsync(cancellationToken));
    }

    /// <summary>Ends what a job's attempt held.</summary>
    public async ValueTask EndJobAsync(Id16 jobId)
    {
        _reading.EndJob(jobId);
        await _sessions.EndJobAsync(jobId);
    }

    /// <summary>An agent may ask about machines that it has or that it has a job for.</summary>
    private async ValueTask RequireMachineAsync(Caller caller, Id16 vm, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        if (!_jobs.HasJobFor(caller.Name, vm) && (await _catalog.Machines.FindAsync(vm, cancellationToken))?.Agent != caller.Name)
        {
            throw new FaultException(FaultReason.Denied, $"The virtual machine {vm} does not belong to agent '{caller.Name}'.");
        }
    }
}

using System.Collections.Concurrent;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Repository;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Points;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Store;

/// <summary>
/// The write sessions that are open: at most one for each job. Safe for concurrent use. They live in memory: after a
/// restart an agent opens a new one, and its probes find what was durable.
/// </summary>
public sealed partial class SessionRegistry(
    BackupRepository repository, Keyholder keyholder, CatalogDatabase catalog, JobService jobs, IEntropy entropy, TimeProvider time, ILogger<SessionRegistry> logger)
    : IAsyncDisposable
{
    /// <summary>A session ends this long after the last call.</summary>
    public static readonly TimeSpan Lease = TimeSpan.FromMinutes(15);

    private static readonly TimeSpan SweepInterval = TimeSpan.FromMinutes(1);

    /// <summary>Told of each session after its end. Set once, before the first call.</summary>
    internal Func<WriteSession, ValueTask>? Ended { get; set; }

    private readonly SemaphoreSlim _changing = new(1, 1);
    private readonly ConcurrentDictionary<Id16, WriteSession> _sessions = new();

    public int Count => _sessions.Count;

    /// <summary>The scope in which new chunks are shared, and the generation of its id key.</summary>
    public (Id16 Scope, ushort Generation) Scope =>
        repository.Head.Scopes is [var scope, ..] ? (Id16.Parse(scope.Id), scope.Generation) : (repository.Head.Uuid, (ushort)1);

    /// <summary>Manifests of the points on which open sessions of this machine build: with one of them gone, the backup could not be committed.</summary>
    public IReadOnlySet<Id32> BasesInUse(Id16 vm) =>
        _sessions.Values.Where(session => session.Expectation.Vm == vm && !session.Expectation.BaseManifest.IsZero).Select(static session => session.Expectation.BaseManifest).ToHashSet();

    /// <summary>Opens a session, or resumes one. The same request id gives the session that it opened.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.SessionExpired"/>: the session to resume is over; <see cref="FaultReason.Denied"/>,
    /// <see cref="FaultReason.Fenced"/>: not this agent's job or an older attempt; <see cref="FaultReason.FailedPrecondition"/>:
    /// the job does not back up this machine to this point; <see cref="FaultReason.AlreadyExists"/>: the point is committed.
    /// </exception>
    public async ValueTask<BeginSessionResponse> BeginAsync(Caller caller, BeginSessionRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        ArgumentNullException.ThrowIfNull(request);
        if (request.RequestId.Length is 0 or > WireText.RequestIdCharsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A request id has 1 to {WireText.RequestIdCharsMax} characters.");
        }
        var job = jobs.RequireAttempt(caller, WireText.ToId(request.JobId, "job id"), request.Attempt);
        var vm = WireText.ToId(request.VmId, "id of the virtual machine");
        var point = WireText.ToId(request.PointId, "id of the recovery point");
        if (job.Kind != JobKind.Backup || job.VmId != vm || job.PointId != point)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The job {job.JobId} does not make recovery point {point} of virtual machine {vm}.");
        }
        await _changing.WaitAsync(cancellationToken);
        try
        {
            if (request.ResumeSessionId.Length > 0)
            {
                return await ResumeAsync(caller, request.ResumeSessionId, job, cancellationToken);
            }
            var earlier = _sessions.Values.FirstOrDefault(session => session.JobId == job.JobId);
            if (earlier is not null && earlier.RequestId == request.RequestId && earlier.Expectation.Attempt == job.Attempt && earlier.Idle < Lease)
            {
                return await ResumeAsync(caller, earlier.Id.ToString(), job, cancellationToken);
            }
            if (earlier is not null)
            {
                await RemoveAsync(earlier);
            }
            return await OpenAsync(caller, request, job, cancellationToken);
        }
        finally
        {
            _changing.Release();
        }
    }

    /// <summary>Ends the session; nothing happens to one that is over.</summary>
    public async ValueTask AbandonAsync(Caller caller, string sessionId)
    {
        ArgumentNullException.ThrowIfNull(caller);
        if (_sessions.TryGetValue(WireText.ToId(sessionId, "session id"), out var session))
        {
            RequireOwner(caller, session);
            await RemoveAsync(session);
        }
    }

    /// <summary>Ends what a job holds, because its attempt is over.</summary>
    public async ValueTask EndJobAsync(Id16 jobId)
    {
        foreach (var session in _sessions.Values.Where(session => session.JobId == jobId).ToList())
        {
            await RemoveAsync(session);
        }
    }

    /// <summary>Ends everything of an agent.</summary>
    public async ValueTask EndAgentAsync(string agent)
    {
        foreach (var session in _sessions.Values.Where(session => session.Agent == agent).ToList())
        {
            await RemoveAsync(session);
        }
    }

    /// <summary>Ends sessions whose lease is over, until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        while (true)
        {
            await Task.Delay(SweepInterval, time, cancellationToken);
            foreach (var session in _sessions.Values.Where(static session => session.Idle >= Lease).ToList())
            {
                LogExpired(session.Id, session.Agent, session.JobId);
                await RemoveAsync(session);
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var session in _sessions.Values.ToList())
        {
            await RemoveAsync(session);
        }
        _changing.Dispose();
    }

    /// <summary>The caller's session, if its lease runs and its job's attempt is the newest; the lease begins anew.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.SessionExpired"/>, <see cref="FaultReason.Denied"/>, <see cref="FaultReason.Fenced"/>.</exception>
    internal WriteSession Require(Caller caller, string sessionId)
    {
        if (!_sessions.TryGetValue(WireText.ToId(sessionId, "session id"), out var session) || session.Idle >= Lease)
        {
            throw Expired(sessionId);
        }
        RequireOwner(caller, session);
        jobs.RequireAttempt(caller, session.JobId, (ulong)session.Expectation.Attempt);
        session.Touch();
        return session;
    }

    private async ValueTask<BeginSessionResponse> ResumeAsync(Caller caller, string sessionId, JobRow job, CancellationToken cancellationToken)
    {
        var session = Require(caller, sessionId);
        if (session.JobId != job.JobId)
        {
            throw Expired(sessionId);
        }
        foreach (var lane in session.Lanes)
        {
            await lane.ResetAsync(cancellationToken);
        }
        LogResumed(session.Id, session.Agent, session.JobId);
        return session.Welcome();
    }

    private async ValueTask<BeginSessionResponse> OpenAsync(Caller caller, BeginSessionRequest request, JobRow job, CancellationToken cancellationToken)
    {
        var agent = await catalog.Agents.FindAsync(caller.Name, cancellationToken)
            ?? throw new FaultException(FaultReason.Denied, $"The agent '{caller.Name}' is not enrolled.");
        // Whatever an earlier attempt has committed is known by now: its session was ended before.
        if (await repository.FindPointAsync(job.PointId, cancellationToken) is { } made)
        {
            throw made.IsComplete
                ? new FaultException(FaultReason.AlreadyExists, $"The recovery point {job.PointId} was committed already.")
                : new FaultException(FaultReason.FailedPrecondition, $"The recovery point {job.PointId} was committed already, and is damaged: run the backup again.");
        }
        var basePoint = await FindBaseAsync(job, request.BasePointId, cancellationToken);
        // A machine has several lineages when points were brought back after all had been forgotten: a base keeps to its own.
        var tip = await FindTipAsync(job.VmId, basePoint?.Lineage, cancellationToken);
        var origin = tip is null || tip.Origin == repository.Head.Uuid ? Id16.Empty : tip.Origin;
        var (scope, generation) = origin.IsEmpty ? Scope : await FindScopeAsync(tip!.Point, cancellationToken);
        var expectation = new CommitExpectation
        {
            Vm = job.VmId,
            Lineage = tip?.Lineage ?? Id16.Create(entropy),
            Point = job.PointId,
            Generation = repository.Generation,
            Attempt = job.Attempt,
            Sequence = (tip?.Sequence ?? 0) + 1,
            CreatedMs = time.NowMs(),
            PreviousManifest = tip?.ManifestHash ?? Id32.Zero,
            BaseManifest = basePoint?.ManifestHash ?? Id32.Zero,
            AgentKeyId = agent.SigningKeyId,
            Origin = origin,
        };
        var id = Id16.Create(entropy);
        var packBytes = PackBytesFor(request);
        var session = new WriteSession(
            id, job.JobId, caller.Name, request.RequestId, expectation, repository.BeginIngest(scope, generation, basePoint?.Point, packBytes),
            ToWelcome(id, expectation, scope, generation, packBytes), time) { TrafficBefore = repository.Traffic };
        _sessions[id] = session;
        LogOpened(id, caller.Name, job.JobId, job.Attempt);
        return session.Welcome();
    }

    /// <summary>
    /// The point that the machine's next one follows. A machine whose newest point was made at another site, and whose keys are
    /// here, goes on in that site's name, so that what it has there and here stays one; without the keys it begins anew.
    /// </summary>
    private async ValueTask<RecoveryPointInfo?> FindTipAsync(Id16 vm, Id16? lineage, CancellationToken cancellationToken)
    {
        var tip = await repository.FindTipAsync(vm, lineage, cancellationToken);
        return tip is null || keyholder.Has(tip.Origin)
            ? tip
            : (await repository.ListPointsAsync(vm, cancellationToken)).Where(point => keyholder.Has(point.Origin) && (lineage is null || point.Lineage == lineage)).MaxBy(static point => point.Sequence);
    }

    private async ValueTask<(Id16 Scope, ushort Generation)> FindScopeAsync(Id16 point, CancellationToken cancellationToken)
    {
        var head = (await repository.OpenPointAsync(point, cancellationToken)).Manifest.Head;
        return (head.Scope, head.IdGeneration);
    }

    /// <summary>An agent waits with more than it keeps until packs are durable: they are not closed later than that.</summary>
    private int PackBytesFor(BeginSessionRequest request) =>
        (int)Math.Min(repository.PackBytesTarget, Math.Max(request.PackBytesMax, Limits.PackBytesTarget));

    private BeginSessionResponse ToWelcome(Id16 id, CommitExpectation expectation, Id16 scope, ushort generation, int packBytes)
    {
        var origin = expectation.Origin.IsEmpty ? repository.Head.Uuid : expectation.Origin;
        using var idKey = keyholder.DeriveIdKey(origin, scope, generation);
        var key = new byte[IdKey.Size];
        idKey.CopyTo(key);
        return new BeginSessionResponse
        {
            SessionId = id.ToString(),
            RepositoryId = origin.ToString(),
            LineageId = expectation.Lineage.ToString(),
            ScopeId = scope.ToString(),
            IdGeneration = generation,
            IdKey = UnsafeByteOperations.UnsafeWrap(key),
            RestorePublicKey = ByteString.CopyFrom(keyholder.FindRestorePublicKey(origin).Span),
            Sequence = (ulong)expectation.Sequence,
            PreviousManifest = ToBytes(expectation.PreviousManifest),
            BaseManifest = ToBytes(expectation.BaseManifest),
            CreatedMs = expectation.CreatedMs,
            Generation = (ulong)expectation.Generation,
            PinGeneration = (ulong)expectation.Generation,
            Lease = Duration.FromTimeSpan(Lease),
            PackBytes = (uint)packBytes,
        };
    }

    private async ValueTask<RecoveryPointInfo?> FindBaseAsync(JobRow job, string basePointId, CancellationToken cancellationToken)
    {
        if (basePointId.Length == 0)
        {
            return null;
        }
        var id = WireText.ToId(basePointId, "id of the base point");
        var info = await repository.FindPointAsync(id, cancellationToken);
        if (info is { IsComplete: false })
        {
            // What it lacks may be on the disk still: a read in full sends it again.
            throw new FaultException(FaultReason.FailedPrecondition, $"The base point {id} is damaged: read in full.");
        }
        return info is not null && info.Vm == job.VmId
            ? info
            : throw new FaultException(FaultReason.FailedPrecondition, $"The base point {id} is not a committed recovery point of this virtual machine: read in full.");
    }

    private async ValueTask RemoveAsync(WriteSession session)
    {
        if (_sessions.TryRemove(session.Id, out _))
        {
            await session.DisposeAsync();
            if (Ended is { } ended)
            {
                await ended(session);
            }
        }
    }

    private static void RequireOwner(Caller caller, WriteSession session)
    {
        if (session.Agent != caller.Name)
        {
            throw new FaultException(FaultReason.Denied, "The session belongs to another agent.");
        }
    }

    private static FaultException Expired(string sessionId) =>
        new(FaultReason.SessionExpired, $"The session {sessionId} is over, or the controller was restarted: open a new one.");

    private static ByteString ToBytes(Id32 hash) => hash.IsZero ? ByteString.Empty : ByteString.CopyFrom(hash.ToArray());

    [LoggerMessage(Level = LogLevel.Information, Message = "Session {SessionId} of agent {Agent} opened for job {JobId}, attempt {Attempt}.")]
    private partial void LogOpened(Id16 sessionId, string agent, Id16 jobId, long attempt);

    [LoggerMessage(Level = LogLevel.Information, Message = "Session {SessionId} of agent {Agent} resumed for job {JobId}.")]
    private partial void LogResumed(Id16 sessionId, string agent, Id16 jobId);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Session {SessionId} of agent {Agent} expired (job {JobId}).")]
    private partial void LogExpired(Id16 sessionId, string agent, Id16 jobId);
}

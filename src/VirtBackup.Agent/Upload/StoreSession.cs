using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Agent.Upload;

/// <summary>What a session is for.</summary>
internal sealed record SessionPurpose(string JobId, ulong Attempt, Id16 Machine, Id16 Point, Id16? BasePoint);

/// <summary>
/// A write session that outlives broken links and controller restarts: calls wait, reconnect and go on for at most 15
/// minutes; a session that the controller no longer knows is replaced by a new one, and only what was not acknowledged
/// is sent again. Safe for concurrent use.
/// </summary>
internal sealed class StoreSession : IDisposable
{
    /// <summary>Longest time without the controller before the run fails.</summary>
    public static readonly TimeSpan PatienceMax = TimeSpan.FromMinutes(15);

    // A link that held this long was a working one, even if nothing had to be sent.
    private static readonly TimeSpan HealthyMin = TimeSpan.FromMinutes(1);

    // A controller makes a data pack durable when it is full: what fits beside it keeps the pipeline moving meanwhile.
    private const long BesidePackBytes = 8 << 20;

    // Objects at a provider are longer, so that they are fewer.
    private const uint PackBytesMax = 64 << 20;
    private const long MapRetainedMax = 4 << 20;

    private readonly IStoreTransport _store;
    private readonly SessionPurpose _purpose;
    private readonly TimeProvider _time;
    private readonly IEntropy _entropy;
    private readonly RunProgress _progress;
    private readonly uint _packBytes;
    private readonly Lock _gate = new();
    private TaskCompletionSource _replaced = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private StoreSession(IStoreTransport store, SessionPurpose purpose, TimeProvider time, IEntropy entropy, RunProgress progress, BeginSessionResponse current)
    {
        _store = store;
        _purpose = purpose;
        _time = time;
        _entropy = entropy;
        _progress = progress;
        Current = current;
        _packBytes = Math.Clamp(current.PackBytes, Limits.PackBytesTarget, PackBytesMax);
        Data = new UploadLane(0, RecordKind.Data, _packBytes + BesidePackBytes, _packBytes);
        Map = new UploadLane(1, RecordKind.Map, MapRetainedMax);
    }

    /// <summary>What the controller said when the present session began.</summary>
    public BeginSessionResponse Current { get; private set; }

    public UploadLane Data { get; }

    public UploadLane Map { get; }

    /// <summary>Opens one; a controller that is away is waited for.</summary>
    public static async Task<StoreSession> BeginAsync(
        IStoreTransport store, SessionPurpose purpose, TimeProvider time, IEntropy entropy, RunProgress progress, CancellationToken cancellationToken)
    {
        // The same request each time: one that was answered to nobody is not a second session.
        var request = Request(purpose, entropy, resume: "", PackBytesMax);
        var first = await PatientCall.RunAsync(token => store.BeginSessionAsync(request, token), (time, entropy), progress, cancellationToken);
        return new StoreSession(store, purpose, time, entropy, progress, first);
    }

    /// <summary>Runs both lanes until they are complete and durable. The one place that replaces the session.</summary>
    public async Task RunLanesAsync(CancellationToken cancellationToken)
    {
        var resumed = false;
        var backoff = new Backoff(_time, _entropy);
        var lastHealthy = _time.GetTimestamp();
        while (true)
        {
            var before = Data.Durable + Map.Durable;
            var attached = _time.GetTimestamp();
            try
            {
                Data.Attach(StateOf(0), resumed);
                Map.Attach(StateOf(1), resumed);
                using var lanes = new LoopGroup(cancellationToken);
                lanes.Start(token => Data.RunAsync(_store, Current.SessionId, _progress, token));
                lanes.Start(token => Map.RunAsync(_store, Current.SessionId, _progress, token));
                await lanes.WhenAllAsync();
                cancellationToken.ThrowIfCancellationRequested();
                return;
            }
            catch (FaultException fault) when (IsPassing(fault.Reason))
            {
                if (Data.Durable + Map.Durable > before || _time.GetElapsedTime(attached) >= HealthyMin)
                {
                    lastHealthy = _time.GetTimestamp();
                    backoff.Reset();
                }
                if (_time.GetElapsedTime(lastHealthy) >= PatienceMax)
                {
                    throw;
                }
                _progress.Log($"The upload broke off and will go on: {fault.Message}");
            }
            resumed = await ReplaceAsync(backoff, lastHealthy, cancellationToken);
        }
    }

    /// <summary>Which chunks the controller has already. Bit i % 8 of byte i / 8.</summary>
    public async ValueTask<ReadOnlyMemory<byte>> ProbeAsync(ReadOnlyMemory<byte> ids, CancellationToken cancellationToken)
    {
        var response = await CallAsync(
            session => _store.ProbeChunksAsync(
                new ProbeChunksRequest { SessionId = session, Kind = RecordKind.Data, Ids = Google.Protobuf.UnsafeByteOperations.UnsafeWrap(ids) }, cancellationToken),
            cancellationToken);
        if (response.PresentBitmap.Length != ((ids.Length / Id32.Size) + 7) / 8)
        {
            throw FaultException.Malformed("The controller answered a probe with the wrong number of bits.");
        }
        return response.PresentBitmap.Memory;
    }

    public async ValueTask PutKeyAsync(ReadOnlyMemory<byte> keyObject, CancellationToken cancellationToken) =>
        await CallAsync(
            session => _store.PutKeyAsync(
                new PutKeyRequest { SessionId = session, KeyObject = Google.Protobuf.UnsafeByteOperations.UnsafeWrap(keyObject) }, cancellationToken),
            cancellationToken);

    /// <summary>Commits. When the answer is lost the controller is asked whether the point exists, never guessed.</summary>
    /// <param name="buildManifest">Makes the manifest for what a session was told; called again if the session is replaced.</param>
    public async Task<CommitRecoveryPointResponse> CommitAsync(Func<BeginSessionResponse, CancellationToken, Task<byte[]>> buildManifest, CancellationToken cancellationToken)
    {
        var backoff = new Backoff(_time, _entropy);
        var start = _time.GetTimestamp();
        var session = Current;
        var manifest = await buildManifest(session, cancellationToken);
        while (true)
        {
            try
            {
                return await _store.CommitRecoveryPointAsync(
                    new CommitRecoveryPointRequest { SessionId = session.SessionId, Manifest = Google.Protobuf.UnsafeByteOperations.UnsafeWrap(manifest) }, cancellationToken);
            }
            catch (FaultException fault) when (IsPassing(fault.Reason) && _time.GetElapsedTime(start) < PatienceMax)
            {
                _progress.Log($"The commit got no answer and is asked for: {fault.Message}");
            }
            // Asked first: no session can be had for a point that exists.
            if (await IsCommittedAsync(backoff, start, cancellationToken))
            {
                return new CommitRecoveryPointResponse();
            }
            try
            {
                await ReplaceAsync(backoff, start, cancellationToken);
            }
            catch (FaultException fault) when (!IsPassing(fault.Reason))
            {
                // The commit may have come through between the question and now.
                if (!await IsCommittedAsync(backoff, start, cancellationToken))
                {
                    throw;
                }
                return new CommitRecoveryPointResponse();
            }
            if (Current.SessionId != session.SessionId)
            {
                session = Current;
                manifest = await buildManifest(session, cancellationToken);
            }
        }
    }

    public async Task AbandonAsync(CancellationToken cancellationToken) =>
        await _store.AbandonSessionAsync(new AbandonSessionRequest { SessionId = Current.SessionId }, cancellationToken);

    public void Dispose()
    {
        Data.Dispose();
        Map.Dispose();
    }

    private static bool IsPassing(FaultReason reason) => reason is FaultReason.Unavailable or FaultReason.SessionExpired;

    private static BeginSessionRequest Request(SessionPurpose purpose, IEntropy entropy, string resume, uint packBytesMax) => new()
    {
        RequestId = Id16.Create(entropy).ToString(),
        JobId = purpose.JobId,
        Attempt = purpose.Attempt,
        VmId = purpose.Machine.ToString(),
        PointId = purpose.Point.ToString(),
        BasePointId = purpose.BasePoint?.ToString() ?? "",
        ResumeSessionId = resume,
        PackBytesMax = packBytesMax,
    };

    private LaneState StateOf(uint lane) =>
        Current.Lanes.FirstOrDefault(state => state.Lane == lane) ?? throw FaultException.Malformed($"The controller opened a session without lane {lane}.");

    private async Task<bool> IsCommittedAsync(Backoff backoff, long since, CancellationToken cancellationToken)
    {
        var request = new FindRecoveryPointsRequest { VmId = _purpose.Machine.ToString() };
        request.PointIds.Add(_purpose.Point.ToString());
        while (true)
        {
            try
            {
                var found = await _store.FindRecoveryPointsAsync(request, cancellationToken);
                return found.CommittedPointIds.Contains(_purpose.Point.ToString());
            }
            catch (FaultException fault) when (IsPassing(fault.Reason) && _time.GetElapsedTime(since) < PatienceMax)
            {
                _progress.Log($"The controller is still away: {fault.Message}");
            }
            await backoff.WaitAsync(cancellationToken);
        }
    }

    /// <summary>Resumes the session or opens a new one; true when it was resumed.</summary>
    private async Task<bool> ReplaceAsync(Backoff backoff, long since, CancellationToken cancellationToken)
    {
        var resume = Current.SessionId;
        while (true)
        {
            await backoff.WaitAsync(cancellationToken);
            try
            {
                var next = await _store.BeginSessionAsync(Request(_purpose, _entropy, resume, _packBytes), cancellationToken);
                TaskCompletionSource replaced;
                lock (_gate)
                {
                    Current = next;
                    replaced = _replaced;
                    _replaced = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                }
                replaced.TrySetResult();
                return resume.Length > 0;
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.SessionExpired && resume.Length > 0)
            {
                resume = "";
            }
            catch (FaultException fault) when (IsPassing(fault.Reason) && _time.GetElapsedTime(since) < PatienceMax)
            {
                _progress.Log($"The controller is still away: {fault.Message}");
            }
        }
    }

    private async ValueTask<T> CallAsync<T>(Func<string, ValueTask<T>> call, CancellationToken cancellationToken)
    {
        var start = _time.GetTimestamp();
        while (true)
        {
            Task replaced;
            string session;
            lock (_gate)
            {
                replaced = _replaced.Task;
                session = Current.SessionId;
            }
            try
            {
                return await call(session);
            }
            catch (FaultException fault) when (IsPassing(fault.Reason) && _time.GetElapsedTime(start) < PatienceMax)
            {
                // The lanes find out, too, and replace the session; a call that alone failed is tried again soon.
                await Task.WhenAny(replaced, Task.Delay(TimeSpan.FromSeconds(2), _time, cancellationToken));
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
    }
}

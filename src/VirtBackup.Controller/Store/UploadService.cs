using VirtBackup.Core;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Controller.Store;

/// <summary>
/// Serves upload streams. Three loops: one reads and appends, one writes acknowledgements as packs become durable, one
/// stores what lies idle. No loop both reads and writes. Safe for concurrent use.
/// </summary>
/// <param name="sessions">Of the agents.</param>
/// <param name="idleFlush">What is not durable is stored after this time without anything new.</param>
/// <param name="time">Measures it.</param>
internal sealed class UploadService(SessionRegistry sessions, TimeSpan idleFlush, TimeProvider time)
{
    /// <summary>For a store of one's own.</summary>
    public static readonly TimeSpan IdleFlush = TimeSpan.FromSeconds(1);

    /// <summary>Where each pack costs a request: a slow disk's map must not lie in a pack for each node.</summary>
    public static readonly TimeSpan IdleFlushAtProvider = TimeSpan.FromSeconds(30);

    public async Task UploadAsync(Caller caller, IServerDuplex<UploadRecordsRequest, UploadRecordsResponse> stream, CancellationToken cancellationToken)
    {
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var messages = stream.ReceiveAsync(scope.Token).GetAsyncEnumerator(scope.Token);
        try
        {
            if (!await messages.MoveNextAsync())
            {
                return;
            }
            var first = messages.Current;
            var session = sessions.Require(caller, first.SessionId);
            var lane = RequireLane(session, first);
            await using var ended = session.Ended.Register(static state => ((CancellationTokenSource)state!).Cancel(), scope);
            await lane.TakeAsync(scope, scope.Token);
            session.EnterStream();
            try
            {
                await RunAsync(session, lane, stream, messages, scope);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                throw session.Ended.IsCancellationRequested
                    ? new FaultException(FaultReason.SessionExpired, "The session is over: open a new one.")
                    : new FaultException(FaultReason.Fenced, $"A newer stream took over lane {lane.Number}.");
            }
            finally
            {
                session.LeaveStream();
                lane.Leave(scope);
            }
        }
        finally
        {
            await messages.DisposeAsync();
        }
    }

    private async Task RunAsync(
        WriteSession session, SessionLane lane, IServerDuplex<UploadRecordsRequest, UploadRecordsResponse> stream,
        IAsyncEnumerator<UploadRecordsRequest> messages, CancellationTokenSource scope)
    {
        using var helpers = CancellationTokenSource.CreateLinkedTokenSource(scope.Token);
        var failures = new Failures(scope);
        var acknowledging = failures.WatchAsync(AcknowledgeAsync(lane, stream, helpers.Token));
        var idling = failures.WatchAsync(FlushIdleAsync(lane, helpers.Token));
        try
        {
            do
            {
                session.Touch();
                var message = messages.Current;
                if (message.Data.Length > Limits.SliceBytesMax)
                {
                    throw new FaultException(FaultReason.InvalidArgument, $"A slice has at most {Limits.SliceBytesMax} bytes.");
                }
                if (message.Data.Length > 0)
                {
                    await lane.AppendAsync(message.Offset, message.Data.Memory, scope.Token);
                }
                if (message.Flush)
                {
                    await lane.FlushAsync(scope.Token);
                }
            }
            while (await messages.MoveNextAsync());
            session.Touch();
            await lane.FlushAsync(scope.Token);
        }
        catch (OperationCanceledException) when (failures.First is not null)
        {
            // The helper's failure is the cause.
        }
        finally
        {
            await helpers.CancelAsync();
            await acknowledging;
            await idling;
        }
        if (failures.First is { } failure)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
        }
        // The last word: everything that was sent is durable.
        await stream.SendAsync(new UploadRecordsResponse { State = lane.State }, scope.Token);
    }

    private static async Task AcknowledgeAsync(SessionLane lane, IServerDuplex<UploadRecordsRequest, UploadRecordsResponse> stream, CancellationToken cancellationToken)
    {
        await Task.Yield();
        while (true)
        {
            var state = lane.State;
            await stream.SendAsync(new UploadRecordsResponse { State = state }, cancellationToken);
            await lane.WaitForDurableAsync((long)state.DurableOffset, cancellationToken);
        }
    }

    private async Task FlushIdleAsync(SessionLane lane, CancellationToken cancellationToken)
    {
        await Task.Yield();
        var seen = -1L;
        while (true)
        {
            await Task.Delay(idleFlush, time, cancellationToken);
            seen = await lane.FlushIfIdleAsync(seen, cancellationToken);
        }
    }

    private static SessionLane RequireLane(WriteSession session, UploadRecordsRequest first)
    {
        var lane = session.Lanes.FirstOrDefault(lane => lane.Number == first.Lane)
            ?? throw new FaultException(FaultReason.InvalidArgument, $"A session has no lane {first.Lane}.");
        var kind = first.Kind switch
        {
            RecordKind.Data => Format.Records.RecordKind.Data,
            RecordKind.Map => Format.Records.RecordKind.Map,
            _ => throw new FaultException(FaultReason.InvalidArgument, "The first message of a lane must say which kind of records it carries."),
        };
        return lane.Kind == kind ? lane : throw new FaultException(FaultReason.InvalidArgument, $"Lane {first.Lane} carries {lane.Kind} records, not {kind}.");
    }

    /// <summary>The first failure of a helping loop; it stops the stream.</summary>
    private sealed class Failures(CancellationTokenSource scope)
    {
        private Exception? _first;

        public Exception? First => Volatile.Read(ref _first);

        public async Task WatchAsync(Task loop)
        {
            try
            {
                await loop;
            }
            catch (OperationCanceledException)
            {
                // The stream is over.
            }
            catch (Exception failure)
            {
                Interlocked.CompareExchange(ref _first, failure, null);
                await scope.CancelAsync();
            }
        }
    }
}

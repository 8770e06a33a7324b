using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Google.Protobuf;
using VirtBackup.Core;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Proofs.Installation;

/// <summary>An upload stream in memory: both of its ends, and a witness of what was sent and acknowledged.</summary>
/// <param name="acknowledged">The witness.</param>
/// <param name="cable">Delays messages and cuts the stream.</param>
/// <param name="acknowledgeEarly">Planted defect: what has arrived is called durable.</param>
internal sealed class UploadPipe(Acknowledged acknowledged, Cable cable, bool acknowledgeEarly)
    : IDuplex<UploadRecordsRequest, UploadRecordsResponse>, IServerDuplex<UploadRecordsRequest, UploadRecordsResponse>
{
    private const int Window = 16;

    private readonly Channel<UploadRecordsRequest> _up = Channel.CreateBounded<UploadRecordsRequest>(Window);
    private readonly Channel<UploadRecordsResponse> _down = Channel.CreateUnbounded<UploadRecordsResponse>();
    private string _session = "";
    private uint _lane;
    private ulong _credit;

    /// <summary>The stream is over; null: in peace.</summary>
    public void End(Exception? failure)
    {
        _up.Writer.TryComplete(failure);
        _down.Writer.TryComplete(failure);
    }

    public async ValueTask SendAsync(UploadRecordsRequest message, CancellationToken cancellationToken)
    {
        if (message.SessionId.Length > 0)
        {
            (_session, _lane) = (message.SessionId, message.Lane);
        }
        if (message.Data.Length > 0)
        {
            acknowledged.Sent(_session, _lane, (long)message.Offset, message.Data.Span);
        }
        // The sender may use message and bytes again.
        var copy = new UploadRecordsRequest(message) { Data = ByteString.CopyFrom(message.Data.Span) };
        try
        {
            if (cable.Breaks())
            {
                End(Cable.Unreachable());
            }
            await _up.Writer.WriteAsync(copy, cancellationToken);
        }
        catch (ChannelClosedException closed)
        {
            throw closed.InnerException is FaultException fault
                ? new FaultException(fault.Reason, fault.Message)
                : new FaultException(FaultReason.Unavailable, "The stream is over.", closed.InnerException);
        }
    }

    public ValueTask CompleteAsync()
    {
        _up.Writer.TryComplete();
        return ValueTask.CompletedTask;
    }

    public async IAsyncEnumerable<UploadRecordsResponse> ReceiveAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        while (await _down.Reader.WaitToReadAsync(cancellationToken))
        {
            while (_down.Reader.TryRead(out var message))
            {
                yield return message;
            }
        }
    }

    public ValueTask DisposeAsync()
    {
        End(new FaultException(FaultReason.Unavailable, "The agent broke the stream."));
        return ValueTask.CompletedTask;
    }

    async IAsyncEnumerable<UploadRecordsRequest> IServerDuplex<UploadRecordsRequest, UploadRecordsResponse>.ReceiveAsync(
        [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        while (await _up.Reader.WaitToReadAsync(cancellationToken))
        {
            while (_up.Reader.TryRead(out var message))
            {
                if (acknowledgeEarly && _credit > 0)
                {
                    Deliver(new LaneState { Lane = _lane, CreditOffset = _credit });
                }
                yield return message;
            }
        }
    }

    ValueTask IServerDuplex<UploadRecordsRequest, UploadRecordsResponse>.SendAsync(UploadRecordsResponse message, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        _credit = message.State.CreditOffset;
        Deliver(message.State.Clone());
        return ValueTask.CompletedTask;
    }

    private void Deliver(LaneState state)
    {
        if (acknowledgeEarly)
        {
            state.DurableOffset = (ulong)acknowledged.LengthOf(_session, _lane);
        }
        if (cable.Dead.IsCancellationRequested)
        {
            End(Cable.Unreachable());
        }
        else if (_down.Writer.TryWrite(new UploadRecordsResponse { State = state }))
        {
            acknowledged.Durable(_session, _lane, (long)state.DurableOffset);
        }
    }
}

using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using VirtBackup.Core;

namespace VirtBackup.Nbd.Wire;

/// <summary>
/// The transmission phase (proto.md, "Transmission phase"): callers send under a lock, one loop receives. Only that loop
/// fails pending requests, and only once it has stopped reading, so no buffer is written after its call has ended.
/// </summary>
internal sealed class NbdConnection : IAsyncDisposable
{
    private readonly Stream _stream;
    private readonly NbdClientOptions _options;
    private readonly RequestTable _table;
    private readonly SemaphoreSlim _sendLock = new(1, 1);
    private readonly byte[] _header = new byte[NbdWire.RequestHeaderBytes];
    private readonly CancellationTokenSource _lifetime = new();
    private readonly TaskCompletionSource _closed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private FaultException? _fault;
    private volatile bool _leaving;
    private int _disposed;
    private Task _receiving = Task.CompletedTask;

    private NbdConnection(Stream stream, string server, NbdClientOptions options)
    {
        (_stream, Server, _options) = (stream, server, options);
        _table = new RequestTable(options.RequestsInFlightMax, this);
    }

    /// <summary>The server's name for messages.</summary>
    public string Server { get; }

    public static NbdConnection Start(Stream stream, string server, NbdClientOptions options, NbdExport export)
    {
        var connection = new NbdConnection(stream, server, options);
        connection._receiving = connection.ReceiveAsync(export);
        return connection;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask ExecuteAsync(Operation operation, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var request = await _table.RentAsync(operation, cancellationToken);
        CancellationTokenRegistration registration = default;
        try
        {
            await _sendLock.WaitAsync(cancellationToken);
            try
            {
                registration = cancellationToken.UnsafeRegister(
                    static (state, token) => ((PendingRequest)state!).Cancel(token), request);
                await SendAsync(request);
            }
            finally
            {
                _sendLock.Release();
            }
            await request.Completion;
        }
        finally
        {
            await registration.DisposeAsync();
            if (request.Leave())
            {
                _table.Return(request);
            }
        }
    }

    /// <summary>Sends the request. A broken stream shows in the request's completion.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask SendAsync(PendingRequest request)
    {
        if (_leaving)
        {
            throw ClosedByUs();
        }
        if (!request.TryPutOnWire(out var source))
        {
            return;
        }
        try
        {
            // Not the caller's token: a request that was sent by halves would end the connection for everybody.
            WriteHeader(request.Command, request.Cookie, request.Offset, request.Length);
            await _stream.WriteAsync(_header, _lifetime.Token);
            if (source.Length > 0)
            {
                await _stream.WriteAsync(source, _lifetime.Token);
            }
            await _stream.FlushAsync(_lifetime.Token);
        }
        catch (Exception failure)
        {
            // Whatever it was: the stream may now end in half a request.
            Abort(Lost(failure));
        }
        finally
        {
            request.GiveBack();
        }
    }

    private void WriteHeader(NbdCommand command, ulong cookie, long offset, int length)
    {
        BinaryPrimitives.WriteUInt32BigEndian(_header, NbdWire.RequestMagic);
        BinaryPrimitives.WriteUInt16BigEndian(_header.AsSpan(4), 0);
        BinaryPrimitives.WriteUInt16BigEndian(_header.AsSpan(6), (ushort)command);
        BinaryPrimitives.WriteUInt64BigEndian(_header.AsSpan(8), cookie);
        BinaryPrimitives.WriteInt64BigEndian(_header.AsSpan(16), offset);
        BinaryPrimitives.WriteInt32BigEndian(_header.AsSpan(24), length);
    }

    /// <summary>
    /// A cancelled call whose memory is in the middle of a transfer waits for the end of that, but not for ever. Ends by
    /// itself; never fails.
    /// </summary>
    public async Task WatchCancelledAsync(PendingRequest request, ulong cookie)
    {
        try
        {
            await Task.Delay(_options.CancellationGrace, _options.TimeProvider, _lifetime.Token);
        }
        catch (OperationCanceledException)
        {
            return;
        }
        if (request.IsStuck(cookie))
        {
            Abort(new FaultException(FaultReason.Unavailable,
                $"The NBD server at {Server} stopped in the middle of a transfer that was cancelled. The connection was closed."));
        }
    }

    /// <summary>Records why the connection is over and stops the receive loop, which fails what is pending.</summary>
    private void Abort(FaultException reason)
    {
        Interlocked.CompareExchange(ref _fault, reason, null);
        _table.Close(_fault);
        try
        {
            _lifetime.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // Disposed meanwhile: over anyway.
        }
    }

    private async Task ReceiveAsync(NbdExport export)
    {
        await Task.Yield();
        FaultException reason;
        try
        {
            await new ReplyLoop(_stream, Server, export, _table).RunAsync(_lifetime.Token);
            reason = _leaving ? ClosedByUs() : Lost(null);
        }
        catch (FaultException failure)
        {
            reason = failure;
        }
        catch (Exception failure) when (failure is IOException or ObjectDisposedException or OperationCanceledException)
        {
            reason = Lost(failure);
        }
        catch (Exception failure)
        {
            // A defect of ours must not leave callers waiting for ever.
            reason = new FaultException(FaultReason.Unspecified, $"Receiving from the NBD server at {Server} failed: {failure.Message}", failure);
        }
        Abort(reason);
        _table.FailAll(_fault!);
    }

    private FaultException Lost(Exception? failure) => new(FaultReason.Unavailable,
        failure is null or EndOfStreamException
            ? $"The NBD server at {Server} closed the connection."
            : $"The connection to the NBD server at {Server} was lost: {failure.Message}", failure);

    private FaultException ClosedByUs() =>
        new(FaultReason.FailedPrecondition, $"The connection to the NBD server at {Server} has been closed on this side.");

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            await _closed.Task;
            return;
        }
        _table.Close(ClosedByUs());
        _leaving = true;
        try
        {
            await FarewellAsync();
            Abort(ClosedByUs());
            await _receiving;
            await _stream.DisposeAsync();
        }
        finally
        {
            _closed.SetResult();
        }
    }

    private async Task FarewellAsync()
    {
        using var patience = new CancellationTokenSource(_options.CloseTimeout, _options.TimeProvider);
        try
        {
            await SayGoodbyeAsync(patience.Token);
            await _receiving.WaitAsync(patience.Token);
        }
        catch (Exception)
        {
            // The server does not listen any more: closing without its consent loses nothing that it acknowledged.
        }
    }

    private async Task SayGoodbyeAsync(CancellationToken cancellationToken)
    {
        await _sendLock.WaitAsync(cancellationToken);
        try
        {
            if (_fault is null)
            {
                WriteHeader(NbdCommand.Disconnect, 0, 0, 0);
                await _stream.WriteAsync(_header, cancellationToken);
                await _stream.FlushAsync(cancellationToken);
            }
        }
        finally
        {
            _sendLock.Release();
        }
    }
}

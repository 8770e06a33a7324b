using System.Runtime.CompilerServices;
using System.Threading.Channels;
using VirtBackup.Core;
using VirtBackup.Protocol.Grpc;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Controller.Replication.Streams;

/// <summary>
/// The asking side of one stream: several asks under way, whose answers come in the order of the asks. One loop writes, one
/// reads; a part that nobody has taken holds up what comes behind it, so answers that are wanted together must be read
/// together. An answer that is no longer wanted is read and dropped. Safe for concurrent use.
/// </summary>
internal sealed class Conversation : IAsyncDisposable
{
    /// <summary>Unanswered asks on one stream.</summary>
    public const int AsksMax = 8;

    /// <summary>Parts of one answer that wait to be taken, of at most 64 KiB each.</summary>
    private const int PartsMax = 16;

    private readonly IDuplex<Ask, Answer> _stream;
    private readonly IPace _pace;
    private readonly string _peer;
    private readonly SemaphoreSlim _room = new(AsksMax, AsksMax);
    private readonly Channel<Pending> _asks = Channel.CreateBounded<Pending>(AsksMax);
    private readonly Channel<Pending> _expected = Channel.CreateBounded<Pending>(AsksMax);
    private readonly CancellationTokenSource _end = new();
    private readonly Task _running;
    private FaultException? _broken;
    private int _outstanding;

    /// <param name="stream">Disposed by this object.</param>
    /// <param name="pace">Slows down what is received.</param>
    /// <param name="peer">For messages.</param>
    public Conversation(IDuplex<Ask, Answer> stream, IPace pace, string peer)
    {
        (_stream, _pace, _peer) = (stream, pace, peer);
        _running = RunAsync();
    }

    /// <summary>Asks without a whole answer.</summary>
    public int Outstanding => Volatile.Read(ref _outstanding);

    /// <summary>The stream is over: nothing can be asked any more.</summary>
    public bool IsBroken => Volatile.Read(ref _broken) is not null;

    /// <summary>The parts of the answer.</summary>
    /// <exception cref="FaultException">What the peer says; <see cref="FaultReason.Unavailable"/>: the stream broke.</exception>
    public async IAsyncEnumerable<Answer> AskAsync(Ask ask, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await _room.WaitAsync(cancellationToken);
        Interlocked.Increment(ref _outstanding);
        var pending = new Pending(ask);
        if (!_asks.Writer.TryWrite(pending))
        {
            // The room above is never more than the channel's.
            Settle();
            throw Volatile.Read(ref _broken) ?? Closed(null);
        }
        try
        {
            await foreach (var part in pending.Parts.Reader.ReadAllAsync(cancellationToken))
            {
                if (part.PartCase == Answer.PartOneofCase.Fault)
                {
                    throw new FaultException(FaultStatus.FromReason(part.Fault.Reason), WireText.Shortened(part.Fault.Message, 4096));
                }
                yield return part;
            }
        }
        finally
        {
            pending.Abandon();
        }
    }

    /// <summary>The only part of the answer.</summary>
    /// <inheritdoc cref="AskAsync"/>
    public async ValueTask<Answer> AskOnceAsync(Ask ask, CancellationToken cancellationToken)
    {
        Answer? only = null;
        await foreach (var part in AskAsync(ask, cancellationToken))
        {
            only = only is null ? part : throw Confused();
        }
        return only ?? throw Confused();
    }

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        await _stream.DisposeAsync();
        await _running;
        _end.Dispose();
        _room.Dispose();
    }

    /// <summary>The peer answered what it was not asked.</summary>
    internal FaultException Confused() => FaultException.Malformed($"{_peer} answered something else than it was asked.");

    private async Task RunAsync()
    {
        await Task.Yield();
        var sending = SendAsync();
        var fault = await ReceiveAsync();
        Volatile.Write(ref _broken, fault);
        _asks.Writer.TryComplete(fault);
        await _end.CancelAsync();
        await sending;
        _expected.Writer.TryComplete();
        while (_expected.Reader.TryRead(out var pending) || _asks.Reader.TryRead(out pending))
        {
            pending.Parts.Writer.TryComplete(fault);
            Settle();
        }
    }

    private async Task SendAsync()
    {
        await Task.Yield();
        try
        {
            await foreach (var pending in _asks.Reader.ReadAllAsync(_end.Token))
            {
                // There is room for as many as there may be asks. None is let go of in between: whoever asked waits for an answer.
                Check.That(_expected.Writer.TryWrite(pending));
                await _stream.SendAsync(pending.Ask, _end.Token);
            }
        }
        catch (Exception failure) when (failure is OperationCanceledException or FaultException)
        {
            // The reading side tells why the stream is over.
        }
    }

    private async Task<FaultException> ReceiveAsync()
    {
        Pending? current = null;
        FaultException fault;
        try
        {
            await foreach (var part in _stream.ReceiveAsync(_end.Token))
            {
                if (current is null && !_expected.Reader.TryRead(out current))
                {
                    throw Confused();
                }
                if (part.Data.Length > Limits.SliceBytesMax)
                {
                    throw FaultException.Malformed($"{_peer} sent a slice of more than {Limits.SliceBytesMax} bytes.");
                }
                if (part.PartCase != Answer.PartOneofCase.None)
                {
                    await _pace.SpendAsync(part.Data.Length, _end.Token);
                    await current.TakeAsync(part, _end.Token);
                }
                if (part.Last)
                {
                    current.Parts.Writer.TryComplete();
                    current = null;
                    Settle();
                }
            }
            fault = Closed(null);
        }
        catch (FaultException broken)
        {
            fault = broken.Reason == FaultReason.Unspecified ? Closed(broken) : broken;
        }
        catch (Exception stopped)
        {
            // Whatever it is: those who wait for an answer learn that none comes.
            fault = Closed(stopped);
        }
        if (current is not null)
        {
            current.Parts.Writer.TryComplete(fault);
            Settle();
        }
        return fault;
    }

    private void Settle()
    {
        Interlocked.Decrement(ref _outstanding);
        _room.Release();
    }

    private FaultException Closed(Exception? cause) => new(FaultReason.Unavailable, $"The connection with {_peer} broke off.", cause);

    private sealed class Pending(Ask ask)
    {
        private volatile bool _isAbandoned;

        public Ask Ask => ask;

        public Channel<Answer> Parts { get; } = Channel.CreateBounded<Answer>(PartsMax);

        public ValueTask TakeAsync(Answer part, CancellationToken cancellationToken) =>
            _isAbandoned ? ValueTask.CompletedTask : Parts.Writer.WriteAsync(part, cancellationToken);

        public void Abandon()
        {
            _isAbandoned = true;
            // A part that waits for room is let in, and is the last one.
            while (Parts.Reader.TryRead(out _))
            {
            }
        }
    }
}

using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using VirtBackup.Controller.Replication;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Controller.Tests.Fixtures;

/// <summary>Ways from one controller to others in memory, which a test can cut.</summary>
internal sealed class MemoryPeers : IPeerDialer
{
    private readonly ConcurrentDictionary<string, (World World, string CalledThere)> _ways = new(StringComparer.Ordinal);

    /// <summary>Bytes of record streams that came from peers.</summary>
    public long Received;

    /// <summary>Breaks a stream after so many bytes; null: never.</summary>
    public Func<long>? CutAfter { get; set; }

    /// <summary>Makes of a peer's answer what a hostile one would send; null: answers come as they are.</summary>
    public Action<Answer>? Falsify { get; set; }

    public void Connect(string name, World there, string calledThere) => _ways[name] = (there, calledThere);

    public ValueTask<PeerAdmission> JoinAsync(string peer, string controller, string joinToken, CancellationToken cancellationToken) =>
        throw new NotSupportedException("Peers are joined by the test.");

    public DateTimeOffset? FindExpiry(string peer) => null;

    public IReplicationTransport Open(string peer, string controller)
    {
        var (world, name) = _ways[peer];
        return new Link(this, world, new Caller(PeerRole.Peer, name, Id16.Empty, Id16.Empty));
    }

    public void Remove(string peer) => _ways.TryRemove(peer, out _);

    private sealed class Link(MemoryPeers peers, World world, Caller caller) : IReplicationTransport
    {
        private readonly CancellationTokenSource _broken = CancellationTokenSource.CreateLinkedTokenSource(World.Token);

        public IDuplex<Ask, Answer> Pull(CancellationToken cancellationToken)
        {
            var pipe = new Pipe<Ask, Answer>(peers, _broken);
            pipe.Served = pipe.ServeAsync(() => world.Role.Replication.PullAsync(caller, pipe, _broken.Token));
            return pipe;
        }

        public IDuplex<Answer, Ask> Offer(CancellationToken cancellationToken)
        {
            var pipe = new Pipe<Answer, Ask>(peers, _broken);
            pipe.Served = pipe.ServeAsync(() => world.Role.Replication.OfferAsync(caller, pipe, _broken.Token));
            return pipe;
        }

        public ValueTask DisposeAsync()
        {
            _broken.Cancel();
            return ValueTask.CompletedTask;
        }
    }

    private sealed class Pipe<TUp, TDown>(MemoryPeers peers, CancellationTokenSource broken) : IDuplex<TUp, TDown>, IServerDuplex<TUp, TDown>
    {
        private readonly Channel<TUp> _up = Channel.CreateBounded<TUp>(8);
        private readonly Channel<TDown> _down = Channel.CreateBounded<TDown>(8);
        private readonly long _cutAfter = peers.CutAfter?.Invoke() ?? long.MaxValue;
        private long _bytes;

        public Task Served { get; set; } = Task.CompletedTask;

        public async Task ServeAsync(Func<Task> serve)
        {
            await Task.Yield();
            try
            {
                await serve();
                _down.Writer.TryComplete();
            }
            catch (Exception failure)
            {
                _down.Writer.TryComplete(failure as FaultException ?? new FaultException(FaultReason.Unavailable, "The link is cut.", failure));
            }
        }

        ValueTask IDuplex<TUp, TDown>.SendAsync(TUp message, CancellationToken cancellationToken) => CarryAsync(_up.Writer, message, cancellationToken);

        IAsyncEnumerable<TDown> IDuplex<TUp, TDown>.ReceiveAsync(CancellationToken cancellationToken) => ReadAsync(_down.Reader, cancellationToken);

        ValueTask IServerDuplex<TUp, TDown>.SendAsync(TDown message, CancellationToken cancellationToken) => CarryAsync(_down.Writer, message, cancellationToken);

        IAsyncEnumerable<TUp> IServerDuplex<TUp, TDown>.ReceiveAsync(CancellationToken cancellationToken) => ReadAsync(_up.Reader, cancellationToken);

        public ValueTask CompleteAsync()
        {
            _up.Writer.TryComplete();
            return ValueTask.CompletedTask;
        }

        public async ValueTask DisposeAsync()
        {
            await broken.CancelAsync();
            await Served;
        }

        /// <summary>A message is copied as a wire copies it: what lies behind a slice is used again.</summary>
        private async ValueTask CarryAsync<T>(ChannelWriter<T> writer, T message, CancellationToken cancellationToken)
        {
            var copy = message is Answer answer ? (T)(object)Answer.Parser.ParseFrom(Google.Protobuf.MessageExtensions.ToByteArray(answer)) : message;
            if (copy is Answer said)
            {
                peers.Falsify?.Invoke(said);
            }
            var length = (message as Answer)?.Data.Length ?? 0;
            Interlocked.Add(ref peers.Received, length);
            if (Interlocked.Add(ref _bytes, length) > _cutAfter)
            {
                await broken.CancelAsync();
            }
            using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, broken.Token);
            try
            {
                await writer.WriteAsync(copy, scope.Token);
            }
            catch (Exception cut) when (cut is ChannelClosedException || (cut is OperationCanceledException && !cancellationToken.IsCancellationRequested))
            {
                throw new FaultException(FaultReason.Unavailable, "The link is cut.", cut);
            }
        }

        private async IAsyncEnumerable<T> ReadAsync<T>(ChannelReader<T> reader, [EnumeratorCancellation] CancellationToken cancellationToken)
        {
            using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, broken.Token);
            while (true)
            {
                T message;
                try
                {
                    if (!await reader.WaitToReadAsync(scope.Token) || !reader.TryRead(out message!))
                    {
                        yield break;
                    }
                }
                catch (OperationCanceledException cut) when (!cancellationToken.IsCancellationRequested)
                {
                    throw new FaultException(FaultReason.Unavailable, "The link is cut.", cut);
                }
                yield return message;
            }
        }
    }
}

/// <summary>The keys of other repositories, kept in memory.</summary>
internal sealed class MemoryOriginKeys : IOriginKeyFiles
{
    private readonly ConcurrentDictionary<Id16, byte[]> _keys = new();

    public IReadOnlyList<(Id16 Repository, byte[] Escrow)> ReadAll() => [.. _keys.Select(static pair => (pair.Key, pair.Value.ToArray()))];

    public void Save(Id16 repository, ReadOnlySpan<byte> escrow) => _keys[repository] = escrow.ToArray();
}

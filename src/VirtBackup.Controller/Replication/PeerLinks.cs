using System.Collections.Concurrent;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Replication;
using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Core;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Controller.Replication;

/// <summary>The streams with other controllers, whoever dialled: who is there, and what this side may ask on. Safe for concurrent use.</summary>
public sealed class PeerLinks(ControllerIdentity identity, CatalogDatabase catalog, IPeerDialer? dialer, TimeProvider time)
{
    /// <summary>Streams that one peer may offer at a time.</summary>
    private const int OffersMax = 16;

    private const uint ProtocolVersion = 1;

    /// <summary>So long an offered stream is waited for: a peer that offers keeps one open and needs a moment for the next.</summary>
    private static readonly TimeSpan OfferPatience = TimeSpan.FromSeconds(10);

    private readonly ConcurrentDictionary<string, OfferPool> _offers = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, int> _streams = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, string> _problems = new(StringComparer.Ordinal);

    /// <summary>Ways to call others; null: this controller calls nobody.</summary>
    public IPeerDialer? Dialer => dialer;

    /// <summary>A stream is open, in whichever direction.</summary>
    public bool IsConnected(string peer) => _streams.GetValueOrDefault(peer) > 0;

    /// <summary>Why the peer could not be reached last; empty: it could, or nobody tried.</summary>
    public string FindProblem(string peer) => _problems.GetValueOrDefault(peer) ?? "";

    /// <summary>Whether asking it is worth a try: this side can call it, or it offers a stream now.</summary>
    internal bool CanReach(PeerRow peer) => (peer.Controller.Length > 0 && dialer is not null) || OffersOf(peer.Name).Count > 0;

    /// <summary>Counts a stream with the peer until the result is disposed.</summary>
    internal IDisposable Enter(string peer)
    {
        _streams.AddOrUpdate(peer, 1, static (_, count) => count + 1);
        return new Presence(() => _streams.AddOrUpdate(peer, 0, static (_, count) => count - 1));
    }

    internal void NoteProblem(string peer, FaultException? problem)
    {
        if (problem is null)
        {
            _problems.TryRemove(peer, out _);
        }
        else
        {
            _problems[peer] = problem.Message;
        }
    }

    /// <summary>Keeps a stream that the peer offers until somebody has asked on it and is done, or the peer ends it.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it offers too many.</exception>
    internal async Task KeepAsync(string peer, IServerDuplex<Answer, Ask> stream, CancellationToken cancellationToken)
    {
        using var presence = Enter(peer);
        var offered = new OfferedStream(stream, cancellationToken);
        OffersOf(peer).Add(offered, OffersMax);
        await offered.Over.WaitAsync(cancellationToken);
    }

    /// <summary>A conversation on which this side asks, after the hello. The caller disposes it.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unavailable"/>: the peer cannot be reached; what the peer says.</exception>
    internal async ValueTask<Conversation> OpenAsync(PeerRow peer, IPace pace, CancellationToken cancellationToken)
    {
        try
        {
            var stream = peer.Controller.Length > 0 && dialer is not null
                ? new DialledStream(dialer.Open(peer.Name, peer.Controller), Enter(peer.Name))
                : await TakeOfferAsync(peer.Name, cancellationToken);
            var conversation = new Conversation(stream, pace, $"the peer '{peer.Name}'");
            try
            {
                await GreetAsync(peer.Name, conversation, cancellationToken);
            }
            catch
            {
                await conversation.DisposeAsync();
                throw;
            }
            NoteProblem(peer.Name, null);
            return conversation;
        }
        catch (FaultException fault)
        {
            NoteProblem(peer.Name, fault);
            throw;
        }
    }

    private async ValueTask GreetAsync(string peer, Conversation conversation, CancellationToken cancellationToken)
    {
        var ask = new HelloAsk { RepositoryId = identity.ControllerId.ToString(), Version = identity.Version, Protocol = ProtocolVersion };
        var answer = (await conversation.AskOnceAsync(new Ask { Hello = ask }, cancellationToken)).Hello ?? throw conversation.Confused();
        await catalog.Peers.SetSeenAsync(
            peer, WireText.ToId(answer.RepositoryId, "repository id"), WireText.Bounded(answer.Version, 64, "version"), time.NowMs(), cancellationToken);
    }

    private async ValueTask<IDuplex<Ask, Answer>> TakeOfferAsync(string peer, CancellationToken cancellationToken)
    {
        using var patience = new CancellationTokenSource(OfferPatience, time);
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, patience.Token);
        try
        {
            return await OffersOf(peer).TakeAsync(scope.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new FaultException(
                FaultReason.Unavailable,
                $"The peer '{peer}' is not connected, and this controller cannot call it: add it here (virtbackup peer add), or have it offer (virtbackup peer offer, there).");
        }
    }

    private OfferPool OffersOf(string peer) => _offers.GetOrAdd(peer, static _ => new OfferPool());

    private sealed class Presence(Action leave) : IDisposable
    {
        public void Dispose() => leave();
    }

    /// <summary>A stream with the connection that it has for itself.</summary>
    private sealed class DialledStream(IReplicationTransport transport, IDisposable presence) : IDuplex<Ask, Answer>
    {
        private readonly IDuplex<Ask, Answer> _stream = transport.Pull(CancellationToken.None);

        public ValueTask SendAsync(Ask message, CancellationToken cancellationToken) => _stream.SendAsync(message, cancellationToken);

        public ValueTask CompleteAsync() => _stream.CompleteAsync();

        public IAsyncEnumerable<Answer> ReceiveAsync(CancellationToken cancellationToken) => _stream.ReceiveAsync(cancellationToken);

        public async ValueTask DisposeAsync()
        {
            await _stream.DisposeAsync();
            await transport.DisposeAsync();
            presence.Dispose();
        }
    }
}

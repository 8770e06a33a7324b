using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Replication;
using VirtBackup.Controller.Enrollment;
using VirtBackup.Controller.Replication.Source;
using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Controller.Store;
using VirtBackup.Core;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Protocol.Transport;
using VirtBackup.Repository;

namespace VirtBackup.Controller.Replication;

/// <summary>What other controllers call, and the streams that this one opens to answer on. Safe for concurrent use.</summary>
public sealed partial class ReplicationEndpoint : IDisposable
{
    /// <summary>Streams that are offered to one peer at a time: one idle, the others taken.</summary>
    private const int OffersMax = 16;

    private static readonly TimeSpan LookInterval = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan BackOffMin = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan BackOffMax = TimeSpan.FromSeconds(60);

    private readonly CatalogDatabase _catalog;
    private readonly PeerLinks _links;
    private readonly PeerEnrollment _enrollment;
    private readonly SourceParts _parts;
    private readonly TimeProvider _time;
    private readonly OpenCalls _calls = new();
    private readonly ILogger _logger;
    private readonly CancellationTokenSource _stopping = new();

    public ReplicationEndpoint(
        PeerAccess access, PeerEnrollment enrollment, BackupRepository repository, IObjectStore store, CatalogDatabase catalog, PointDescriber describer,
        ControllerIdentity identity, PeerLinks links, TimeProvider time, ILogger<ReplicationEndpoint> logger)
    {
        (_catalog, _links, _enrollment, _time, _logger) = (catalog, links, enrollment, time, logger);
        _parts = new SourceParts(repository, store, identity, access, new PointListings(repository, catalog, describer, access, time), catalog.Receipts, NoteHelloAsync);
    }

    /// <summary>Answers a peer that called to ask.</summary>
    public Task PullAsync(Caller caller, IServerDuplex<Ask, Answer> stream, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        return UntilStoppedAsync(stopping => _calls.ServeAsync(
            caller.Name,
            async ended =>
            {
                // Behind the entry in the list of calls: whoever is revoked, or joins anew, from here on is found there.
                _ = await _enrollment.RequireAsync(caller, ended);
                using var presence = _links.Enter(caller.Name);
                using var answering = new AnsweringStream(caller.Name, stream, _parts);
                await answering.RunAsync(ended);
            },
            stopping), cancellationToken);
    }

    /// <summary>Keeps a stream on which a peer that called answers.</summary>
    public Task OfferAsync(Caller caller, IServerDuplex<Answer, Ask> stream, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        return UntilStoppedAsync(stopping => _calls.ServeAsync(
            caller.Name,
            async ended =>
            {
                _ = await _enrollment.RequireAsync(caller, ended);
                await _links.KeepAsync(caller.Name, stream, ended);
            },
            stopping), cancellationToken);
    }

    /// <summary>Ends what the peer has open: its key is good no longer.</summary>
    public void EndPeer(string peer) => _calls.End(peer);

    public void Dispose() => _stopping.Dispose();

    /// <summary>Offers streams to the peers that cannot call this site, until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var offering = new Dictionary<string, Task>(StringComparer.Ordinal);
        try
        {
            while (true)
            {
                foreach (var peer in await _catalog.Peers.ListAsync(scope.Token))
                {
                    if (IsOffered(peer) && (!offering.TryGetValue(peer.Name, out var running) || running.IsCompleted))
                    {
                        offering[peer.Name] = OfferAsync(peer.Name, scope.Token);
                    }
                }
                await Task.Delay(LookInterval, _time, scope.Token);
            }
        }
        finally
        {
            await scope.CancelAsync();
            await _stopping.CancelAsync();
            await Task.WhenAll(offering.Values).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    /// <summary>Streams that wait for something would keep the controller from stopping.</summary>
    private async Task UntilStoppedAsync(Func<CancellationToken, Task> serve, CancellationToken cancellationToken)
    {
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stopping.Token);
        try
        {
            await serve(scope.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new FaultException(FaultReason.Unavailable, "The controller stops: try again in a moment.");
        }
    }

    /// <summary>Keeps one idle stream open, and those that are taken.</summary>
    private async Task OfferAsync(string peer, CancellationToken cancellationToken)
    {
        await Task.Yield();
        var backOff = BackOffMin;
        var streams = new List<Task>();
        try
        {
            while (await _catalog.Peers.FindAsync(peer, cancellationToken) is { } row && IsOffered(row))
            {
                try
                {
                    streams.RemoveAll(static stream => stream.IsCompleted);
                    if (streams.Count >= OffersMax)
                    {
                        await Task.WhenAny(streams).WaitAsync(cancellationToken);
                        continue;
                    }
                    var taken = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                    var stream = OfferOneAsync(row, () => taken.TrySetResult(), cancellationToken);
                    streams.Add(stream);
                    if (await Task.WhenAny(taken.Task, stream) == stream)
                    {
                        await stream;
                    }
                    backOff = BackOffMin;
                }
                catch (FaultException fault)
                {
                    _links.NoteProblem(peer, fault);
                    LogNotOffered(peer, fault.Message);
                    await Task.Delay(backOff, _time, cancellationToken);
                    backOff = backOff * 2 < BackOffMax ? backOff * 2 : BackOffMax;
                }
            }
        }
        finally
        {
            // Each of them works with the repository until it is over.
            await Task.WhenAll(streams).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    private async Task OfferOneAsync(PeerRow peer, Action taken, CancellationToken cancellationToken)
    {
        await Task.Yield();
        await _calls.ServeAsync(
            peer.Name,
            async ended =>
            {
                _ = await _parts.Access.RequirePeerAsync(peer.Name, ended);
                await using var transport = _links.Dialer!.Open(peer.Name, peer.Controller);
                using var presence = _links.Enter(peer.Name);
                await using var stream = transport.Offer(ended);
                using var answering = new AnsweringStream(peer.Name, new AnsweringEnd(stream), _parts) { Taken = taken };
                await answering.RunAsync(ended);
            },
            cancellationToken);
    }

    private bool IsOffered(PeerRow peer) => peer is { Offer: true, Controller.Length: > 0, RevokedMs: null } && _links.Dialer is not null;

    private ValueTask NoteHelloAsync(string peer, Id16 repository, string version, CancellationToken cancellationToken)
    {
        _links.NoteProblem(peer, null);
        return _catalog.Peers.SetSeenAsync(peer, repository, version, _time.NowMs(), cancellationToken);
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The peer {Peer} cannot be offered anything now: {Reason}")]
    private partial void LogNotOffered(string peer, string reason);
}

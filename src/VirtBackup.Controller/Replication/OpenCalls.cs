using System.Collections.Concurrent;
using VirtBackup.Core;

namespace VirtBackup.Controller.Replication;

/// <summary>The calls that peers have open here: they end when the key that opened them is good no longer. Safe for concurrent use.</summary>
internal sealed class OpenCalls
{
    private readonly ConcurrentDictionary<OpenCall, string> _open = new();

    /// <summary>Serves a call until it is over, or until <see cref="End"/>.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: it was ended; what <paramref name="serve"/> throws.</exception>
    public async Task ServeAsync(string peer, Func<CancellationToken, Task> serve, CancellationToken cancellationToken)
    {
        using var call = new OpenCall(cancellationToken);
        _open[call] = peer;
        try
        {
            await serve(call.Ended);
        }
        catch (OperationCanceledException) when (call.IsEnded)
        {
            throw new FaultException(FaultReason.Denied, $"The peer '{peer}' was revoked here, or joined anew.");
        }
        finally
        {
            _open.TryRemove(call, out _);
        }
    }

    /// <summary>Ends all calls of the peer.</summary>
    public void End(string peer)
    {
        foreach (var (call, caller) in _open)
        {
            if (caller == peer)
            {
                call.End();
            }
        }
    }

    private sealed class OpenCall : IDisposable
    {
        private readonly CancellationTokenSource _end;

        public OpenCall(CancellationToken cancellationToken)
        {
            _end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            Ended = _end.Token;
        }

        public CancellationToken Ended { get; }

        public bool IsEnded { get; private set; }

        public void End()
        {
            IsEnded = true;
            try
            {
                _end.Cancel();
            }
            catch (ObjectDisposedException)
            {
                // It was over meanwhile.
            }
        }

        public void Dispose() => _end.Dispose();
    }
}

using System.Runtime.CompilerServices;
using VirtBackup.Core;

namespace VirtBackup.Nbd.Wire;

/// <summary>The connection's request slots: as many as requests may be in flight. Safe for concurrent use.</summary>
internal sealed class RequestTable : IDisposable
{
    private readonly Lock _gate = new();
    private readonly PendingRequest[] _requests;
    private readonly Stack<PendingRequest> _free;
    private readonly SemaphoreSlim _slots;
    private FaultException? _closed;

    public RequestTable(int capacity, NbdConnection owner)
    {
        _requests = new PendingRequest[capacity];
        _free = new Stack<PendingRequest>(capacity);
        _slots = new SemaphoreSlim(capacity, capacity);
        for (var index = capacity - 1; index >= 0; index--)
        {
            _free.Push(_requests[index] = new PendingRequest(index, owner));
        }
    }

    /// <exception cref="FaultException">The table was closed: the reason why.</exception>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<PendingRequest> RentAsync(Operation operation, CancellationToken cancellationToken)
    {
        await _slots.WaitAsync(cancellationToken);
        FaultException closed;
        lock (_gate)
        {
            if (_closed is null)
            {
                var request = _free.Pop();
                request.Begin(operation);
                return request;
            }
            closed = _closed;
        }
        _slots.Release();
        throw new FaultException(closed.Reason, closed.Message, closed);
    }

    public void Return(PendingRequest request)
    {
        lock (_gate)
        {
            _free.Push(request);
        }
        _slots.Release();
    }

    /// <summary>The request to which a reply with this cookie is owed, or null.</summary>
    public PendingRequest? Find(ulong cookie)
    {
        var index = (uint)cookie;
        return index < _requests.Length && _requests[index].IsOwed(cookie) ? _requests[index] : null;
    }

    /// <summary>From now on nothing can be rented. The first reason stays.</summary>
    public void Close(FaultException reason)
    {
        lock (_gate)
        {
            _closed ??= reason;
        }
    }

    /// <summary>Fails everything that is pending, after <see cref="Close"/>.</summary>
    public void FailAll(FaultException reason)
    {
        foreach (var request in _requests)
        {
            if (request.Finish(new FaultException(reason.Reason, reason.Message, reason)))
            {
                Return(request);
            }
        }
    }

    public void Dispose() => _slots.Dispose();
}

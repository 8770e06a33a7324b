using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// One connection to libvirt, opened when it is first needed and again after the daemon went away. Calls run on threads
/// that may wait; whoever awaits one waits for a limited time. Safe for concurrent use.
/// </summary>
internal sealed class LibvirtConnection(string uri, LibvirtOptions options, TimeProvider time, IBlockingCalls blocking) : IAsyncDisposable
{
    // A daemon that does not answer for half a minute is given up, and with it the calls that wait for it.
    private const int KeepAliveSeconds = 5;
    private const uint KeepAliveCount = 5;
    private readonly SemaphoreSlim opening = new(1);
    private ConnectionHandle? current;
    private bool reportedLost;

    public string Uri => uri;

    /// <summary>A call that changes nothing: it is repeated once when the connection turns out to be lost.</summary>
    public async Task<T> QueryAsync<T>(Func<ConnectionHandle, T> call, CancellationToken cancellationToken)
    {
        try
        {
            return await CallAsync(call, options.CallTimeout, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.HypervisorUnavailable && IsLost)
        {
            return await CallAsync(call, options.CallTimeout, cancellationToken);
        }
    }

    /// <summary>A call that changes something: made once.</summary>
    /// <exception cref="FaultException">libvirt refused, or did not answer in time; then whether it was done is not known.</exception>
    public Task<T> ChangeAsync<T>(Func<ConnectionHandle, T> call, CancellationToken cancellationToken) => CallAsync(call, options.WorkTimeout, cancellationToken);

    /// <summary>A call that may hang, for the caller to wait for as long as it wants. What it throws is libvirt's failure as it is.</summary>
    public async Task<T> StartAsync<T>(Func<ConnectionHandle, T> call, CancellationToken cancellationToken)
    {
        var connection = await OpenAsync(cancellationToken);
        return await blocking.RunAsync(() => call(connection));
    }

    /// <summary>Waits for a part of a call that changes something, as <see cref="ChangeAsync"/> does.</summary>
    public async Task AwaitChangeAsync(Task part, CancellationToken cancellationToken)
    {
        try
        {
            await WaitAsync(Follow(), options.WorkTimeout, cancellationToken);
        }
        catch (LibvirtFailure failure)
        {
            throw failure.ToFault(uri);
        }

        async Task<bool> Follow()
        {
            await part;
            return true;
        }
    }

    /// <summary>On the thread of a call: tells a failure of the call from a lost connection.</summary>
    public void Guard(ConnectionHandle connection, Action call) => Guarded(connection, _ =>
    {
        call();
        return true;
    });

    private bool IsLost => current is null;

    private async Task<T> CallAsync<T>(Func<ConnectionHandle, T> call, TimeSpan limit, CancellationToken cancellationToken)
    {
        var connection = await OpenAsync(cancellationToken);
        try
        {
            return await WaitAsync(blocking.RunAsync(() => Guarded(connection, call)), limit, cancellationToken);
        }
        catch (LibvirtFailure failure)
        {
            throw failure.ToFault(uri);
        }
    }

    // The failure is looked at on the thread of the call, and so is whether the connection survived it.
    private T Guarded<T>(ConnectionHandle connection, Func<ConnectionHandle, T> call)
    {
        try
        {
            LibvirtCalls.ResetLastError();
            return call(connection);
        }
        catch (LibvirtFailure failure)
        {
            if (LibvirtCalls.IsAlive(connection) == 1)
            {
                throw;
            }
            Forget(connection);
            throw new LibvirtFailure(LibvirtFailure.NoConnection, failure.Message);
        }
        catch (EntryPointNotFoundException failure)
        {
            throw LibvirtLibrary.TooOld(failure);
        }
    }

    private async Task<ConnectionHandle> OpenAsync(CancellationToken cancellationToken)
    {
        if (current is { IsClosed: false } open && LibvirtCalls.IsAlive(open) == 1)
        {
            return open;
        }
        await opening.WaitAsync(cancellationToken);
        try
        {
            if (current is { IsClosed: false } opened && LibvirtCalls.IsAlive(opened) == 1)
            {
                return opened;
            }
            LibvirtLibrary.Prepare(blocking);
            if (Interlocked.Exchange(ref current, null) is { } dead)
            {
                dead.Dispose();
            }
            var connection = await WaitAsync(blocking.RunAsync(Open), options.CallTimeout, cancellationToken);
            current = connection;
            Report(lost: false, $"libvirt at {uri} is reachable again.");
            return connection;
        }
        catch (LibvirtFailure failure)
        {
            var fault = new FaultException(failure.Code is LibvirtFailure.AuthenticationFailed or LibvirtFailure.OperationDenied ? FaultReason.Denied : FaultReason.HypervisorUnavailable,
                $"libvirt at {uri} cannot be reached: {failure.Message}. See that its daemon runs and that this agent may use it.", failure);
            Report(lost: true, fault.Message);
            throw fault;
        }
        finally
        {
            opening.Release();
        }
    }

    private ConnectionHandle Open()
    {
        var connection = LibvirtValues.Require(LibvirtCalls.Open(uri));
        // Drivers without a daemon know no keep-alive: there is nothing to lose then.
        _ = LibvirtCalls.SetKeepAlive(connection, KeepAliveSeconds, KeepAliveCount);
        return connection;
    }

    private void Forget(ConnectionHandle lost)
    {
        if (Interlocked.CompareExchange(ref current, null, lost) == lost)
        {
            lost.Dispose();
            Report(lost: true, $"The connection to libvirt at {uri} was lost.");
        }
    }

    private void Report(bool lost, string message)
    {
        if (reportedLost != lost)
        {
            reportedLost = lost;
            options.Report?.Invoke(message);
        }
    }

    private async Task<T> WaitAsync<T>(Task<T> call, TimeSpan limit, CancellationToken cancellationToken)
    {
        try
        {
            return await call.WaitAsync(limit, time, cancellationToken);
        }
        catch (TimeoutException failure)
        {
            throw new FaultException(FaultReason.HypervisorUnavailable, $"libvirt at {uri} did not answer within {limit.TotalSeconds:0} s.", failure);
        }
    }

    public async ValueTask DisposeAsync()
    {
        // Closing speaks to the daemon, which may hang.
        if (Interlocked.Exchange(ref current, null) is { } open)
        {
            await blocking.RunAsync(() =>
            {
                open.Dispose();
                return true;
            });
        }
        opening.Dispose();
    }
}

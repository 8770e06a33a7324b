using System.Net;
using System.Net.Sockets;

namespace VirtBackup.Testing.Links;

/// <summary>A port of this machine's loopback that leads to the same port of a site's: so commands outside reach a controller that is inside.</summary>
public sealed class SiteDoor : IAsyncDisposable
{
    private readonly NetworkSite _site;
    private readonly IPEndPoint _address;
    private readonly TcpListener _listener;
    private readonly CancellationTokenSource _closing = new();
    private readonly Task _accepting;

    public SiteDoor(NetworkSite site, int port)
    {
        _site = site;
        _address = new IPEndPoint(IPAddress.Loopback, port);
        _listener = new TcpListener(_address);
        _listener.Start();
        _accepting = AcceptAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _closing.CancelAsync();
        _listener.Dispose();
        await _accepting;
        _closing.Dispose();
    }

    private async Task AcceptAsync()
    {
        var passing = new List<Task>();
        try
        {
            while (true)
            {
                var outside = await _listener.AcceptSocketAsync(_closing.Token);
                passing.RemoveAll(static task => task.IsCompleted);
                passing.Add(PassAsync(outside));
            }
        }
        catch (Exception closed) when (closed is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            await Task.WhenAll(passing);
        }
    }

    private async Task PassAsync(Socket outside)
    {
        await Task.Yield();
        using (outside)
        {
            try
            {
                outside.NoDelay = true;
                using var inside = await _site.ConnectAsync(_address, _closing.Token);
                await Task.WhenAll(CopyAsync(outside, inside), CopyAsync(inside, outside));
            }
            catch (Exception broken) when (broken is SocketException or OperationCanceledException or ObjectDisposedException)
            {
                // Nobody is inside, or one side has hung up in the middle: the other sees its connection close.
            }
        }
    }

    private async Task CopyAsync(Socket from, Socket to)
    {
        var buffer = new byte[64 << 10];
        try
        {
            while (await from.ReceiveAsync(buffer, _closing.Token) is > 0 and var count) await to.SendAsync(buffer.AsMemory(0, count), _closing.Token);
            to.Shutdown(SocketShutdown.Send);
        }
        catch
        {
            // What breaks one direction ends the other.
            from.Close();
            to.Close();
            throw;
        }
    }
}

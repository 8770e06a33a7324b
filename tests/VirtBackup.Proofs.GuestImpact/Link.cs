using System.Net;
using System.Net.Sockets;

namespace VirtBackup.Proofs.GuestImpact;

/// <summary>The network between the agent and its controller: as fast as it is, slow, or carrying nothing.</summary>
internal sealed class Link : IAsyncDisposable
{
    private const int SliceBytes = 256 << 10;
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _over = new();
    private readonly int _controller;
    private readonly Task _accepting;
    private readonly Lock _gate = new();
    private double _nextFree;

    public Link(int controller)
    {
        _controller = controller;
        _listener.Start();
        _accepting = AcceptAsync();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>To the controller, all connections together; 0: no limit.</summary>
    public double BytesPerSecond { get; set; }

    /// <summary>Nothing passes, either way, and nobody is told.</summary>
    public bool IsDead { get; set; }

    private async Task AcceptAsync()
    {
        while (!_over.IsCancellationRequested)
        {
            try
            {
                _ = ServeAsync(await _listener.AcceptTcpClientAsync(_over.Token));
            }
            catch (Exception end) when (end is OperationCanceledException or SocketException)
            {
                return;
            }
        }
    }

    private async Task ServeAsync(TcpClient agent)
    {
        using var near = agent;
        using var far = new TcpClient();
        try
        {
            await far.ConnectAsync(IPAddress.Loopback, _controller, _over.Token);
            near.NoDelay = far.NoDelay = true;
            near.ReceiveBufferSize = SliceBytes;
            await Task.WhenAny(PassAsync(near.GetStream(), far.GetStream(), isUp: true), PassAsync(far.GetStream(), near.GetStream(), isUp: false));
        }
        catch (Exception end) when (end is OperationCanceledException or SocketException)
        {
            // The controller is not there, or the proof is over.
        }
    }

    private async Task PassAsync(NetworkStream from, NetworkStream to, bool isUp)
    {
        var buffer = new byte[SliceBytes];
        try
        {
            int count;
            while ((count = await from.ReadAsync(buffer, _over.Token)) > 0)
            {
                while (IsDead) await Task.Delay(20, _over.Token);
                if (isUp && BytesPerSecond > 0) await Task.Delay(Reserve(count), _over.Token);
                await to.WriteAsync(buffer.AsMemory(0, count), _over.Token);
            }
        }
        catch (Exception end) when (end is OperationCanceledException or IOException)
        {
            // One side has left: the other learns of it.
        }
    }

    private TimeSpan Reserve(int bytes)
    {
        lock (_gate)
        {
            var now = Environment.TickCount64 / 1000.0;
            var start = Math.Max(now, _nextFree);
            _nextFree = start + (bytes / BytesPerSecond);
            return TimeSpan.FromSeconds(start - now);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _over.CancelAsync();
        _listener.Stop();
        await _accepting;
        _over.Dispose();
    }
}

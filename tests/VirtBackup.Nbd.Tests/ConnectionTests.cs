using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.Time.Testing;
using VirtBackup.Core;
using static VirtBackup.Nbd.Tests.FakeServer;

namespace VirtBackup.Nbd.Tests;

/// <summary>What the connection does with lawful but unusual servers, with cancellation, and at its end.</summary>
public sealed class ConnectionTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task AssemblesPiecesInAnyOrder()
    {
        var (client, server) = await ConnectAsync();
        await using var _ = client;
        await using var __ = server;
        var buffer = new byte[4096];
        buffer.AsSpan().Fill(9);
        var reading = client.ReadAsync(8192, buffer, Token).AsTask();
        var cookie = (await server.ReadRequestAsync()).Cookie;
        await server.SendAsync([.. Hole(cookie, 8192 + 3000, 1096), .. Data(cookie, 8192 + 1000, Filled(2000, 2)), .. Data(cookie, 8192, Filled(1000, 1)), .. None(cookie)]);
        await reading;
        Assert.Equal([.. Filled(1000, 1), .. Filled(2000, 2), .. new byte[1096]], buffer);
    }

    [Fact]
    public async Task AnErrorInTheMiddleFailsOnlyItsRequest()
    {
        var (client, server) = await ConnectAsync();
        await using var _ = client;
        await using var __ = server;
        var reading = client.ReadAsync(8192, new byte[4096], Token).AsTask();
        var first = (await server.ReadRequestAsync()).Cookie;
        var flushing = client.FlushAsync(Token).AsTask();
        var second = (await server.ReadRequestAsync()).Cookie;
        await server.SendAsync([
            .. Data(first, 8192, new byte[1024]), .. Error(first, NbdError.InputOutput, "bad\r\nsector", 9216, done: false),
            .. Simple(second, 0), .. Data(first, 10_240, new byte[2048]), .. Error(first, NbdError.NoSpace, "later", done: false), .. None(first)]);
        await flushing;
        var failure = await Assert.ThrowsAsync<NbdErrorException>(() => reading);
        Assert.Equal((NbdError.InputOutput, "bad  sector"), (failure.Error, failure.ServerMessage));
        Assert.EndsWith("EIO (bad  sector).", failure.Message, StringComparison.Ordinal);

        // Kinds of errors that the protocol does not define yet fail their request only, too.
        reading = client.ReadAsync(8192, new byte[4096], Token).AsTask();
        var third = (await server.ReadRequestAsync()).Cookie;
        await server.SendAsync(Chunk(third, 0x8123, true, [.. UInt32(4242), .. UInt16(0), .. new byte[20]]));
        Assert.Equal(4242u, (uint)(await Assert.ThrowsAsync<NbdErrorException>(() => reading)).Error);
    }

    [Fact]
    public async Task ClipsALastExtentThatReachesFurtherAndAsksOn()
    {
        var (client, server) = await ConnectAsync();
        await using var _ = client;
        await using var __ = server;
        var asking = client.BlockStatusAsync(Context, 4096, 65_536, Token).ToListAsync(Token).AsTask();
        var request = await server.ReadRequestAsync();
        Assert.Equal((4096L, 65_536), (request.Offset, request.Length));
        await server.SendAsync(Status(request.Cookie, ContextId, true, (4096, 0), (8192, 3)));
        request = await server.ReadRequestAsync();
        Assert.Equal((16_384L, 53_248), (request.Offset, request.Length));
        await server.SendAsync([.. Status(request.Cookie, ContextId, false, (4096, 3), (1 << 20, 0)), .. None(request.Cookie)]);
        Assert.Equal([new NbdExtent(4096, 4096, 0), new NbdExtent(8192, 12_288, 3), new NbdExtent(20_480, 49_152, 0)], await asking);
    }

    [Fact]
    public async Task ASilentServerDoesNotHoldACancelledCall()
    {
        var (client, server) = await ConnectAsync(new NbdClientOptions { RequestsInFlightMax = 1 });
        await using var _ = client;
        await using var __ = server;
        var buffer = Filled(4096, 7);
        using var cancel = new CancellationTokenSource();
        var reading = client.ReadAsync(0, buffer, cancel.Token).AsTask();
        var waiting = client.FlushAsync(cancel.Token).AsTask(); // for the only slot
        var cookie = (await server.ReadRequestAsync()).Cookie;
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);

        // The late reply is checked and thrown away, and frees the slot for the next call.
        var next = client.ReadAsync(4096, new byte[512], Token).AsTask();
        await server.SendAsync(Data(cookie, 0, Filled(4096, 1), done: true));
        var second = await server.ReadRequestAsync();
        await server.SendAsync(Data(second.Cookie, 4096, Filled(512, 2), done: true));
        await next;
        Assert.Equal(Filled(4096, 7), buffer);
        Assert.Equal(cookie + (1UL << 32), second.Cookie);
    }

    [Fact]
    public async Task CancellingInTheMiddleOfATransferEndsWithTheNextPiece()
    {
        var (client, server) = await ConnectAsync();
        await using var _ = client;
        await using var __ = server;
        var buffer = Filled(200_000, 7);
        using var cancel = new CancellationTokenSource();
        var reading = client.ReadAsync(0, buffer, cancel.Token).AsTask();
        var cookie = (await server.ReadRequestAsync()).Cookie;
        var reply = Data(cookie, 0, Filled(200_000, 1), done: true);
        await server.SendAsync(reply[..50_000]);
        await SpinUntilAsync(() => server.IsDrained);
        await cancel.CancelAsync();
        await server.SendAsync(reply[50_000..60_000]);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading);
        var state = buffer.ToArray();
        var flushing = client.FlushAsync(Token).AsTask();
        await server.SendAsync(reply[60_000..]);
        await server.SendAsync(Simple((await server.ReadRequestAsync()).Cookie, 0));
        await flushing; // the whole reply has passed by now
        Assert.Equal(state, buffer);
    }

    [Fact]
    public async Task AServerThatStopsInTheMiddleIsGivenUpAfterTheGrace()
    {
        var time = new FakeTimeProvider();
        var (client, server) = await ConnectAsync(new NbdClientOptions { TimeProvider = time, CancellationGrace = TimeSpan.FromSeconds(3) });
        await using var _ = client;
        await using var __ = server;
        var buffer = new byte[200_000];
        using var cancel = new CancellationTokenSource();
        var reading = client.ReadAsync(0, buffer, cancel.Token).AsTask();
        var flushing = client.FlushAsync(Token).AsTask();
        var cookie = (await server.ReadRequestAsync()).Cookie;
        await server.SendAsync(Data(cookie, 0, Filled(200_000, 1), done: true)[..50_000]);
        await SpinUntilAsync(() => server.IsDrained);
        await cancel.CancelAsync();
        Assert.False(reading.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(4));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading);
        Assert.Equal(FaultReason.Unavailable, (await Assert.ThrowsAsync<FaultException>(() => flushing)).Reason);
    }

    [Fact]
    public async Task AWriteToAServerThatDoesNotReadCanBeCancelled()
    {
        var time = new FakeTimeProvider();
        var (near, far) = DuplexStream.CreatePair(bytesMax: 4096);
        await using var server = new FakeServer(far);
        var opening = NbdClient.OpenAsync(near, new NbdClientOptions { TimeProvider = time }, Token);
        await server.HandshakeAsync();
        await using var client = await opening;
        using var cancel = new CancellationTokenSource();
        var writing = client.WriteAsync(0, new byte[100_000], cancel.Token).AsTask();
        var queued = client.FlushAsync(cancel.Token).AsTask();
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => queued);
        Assert.False(writing.IsCompleted); // its buffer is still being sent
        time.Advance(TimeSpan.FromSeconds(6));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => writing);
        Assert.Equal(FaultReason.Unavailable, (await Assert.ThrowsAsync<FaultException>(() => client.FlushAsync(Token).AsTask())).Reason);
    }

    [Fact]
    public async Task AReplyThatOvertakesACancelledSendIsNotASuccess()
    {
        // So small a window that a request is under way until the server reads it.
        var (near, far) = DuplexStream.CreatePair(bytesMax: 16);
        var server = new FakeServer(far);
        var opening = NbdClient.OpenAsync(near, new NbdClientOptions(), Token);
        await server.HandshakeAsync();
        await using var client = await opening;
        await using var _ = server;
        using var cancel = new CancellationTokenSource();
        var buffer = new byte[512];
        var reading = client.ReadAsync(0, buffer, cancel.Token).AsTask();
        await cancel.CancelAsync();
        Assert.False(reading.IsCompleted);
        const ulong cookie = 1UL << 32;
        await server.SendAsync(Data(cookie, 0, Filled(512, 1), done: true));
        Assert.Equal(cookie, (await server.ReadRequestAsync()).Cookie);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading);
        Assert.Equal(new byte[512], buffer);
    }

    [Fact]
    public async Task DisposingSaysGoodbyeAndLetsTheServerAnswer()
    {
        var (client, server) = await ConnectAsync();
        await using var _ = server;
        var writing = client.WriteAsync(512, Filled(512, 5), Token).AsTask();
        var write = await server.ReadRequestAsync();
        Assert.Equal(Filled(512, 5), write.Payload);
        var disposing = client.DisposeAsync().AsTask();
        Assert.Equal((ushort)NbdCommand.Disconnect, (await server.ReadRequestAsync()).Type);
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(() => client.FlushAsync(Token).AsTask())).Reason);
        Assert.False(disposing.IsCompleted);
        await server.SendAsync(Simple(write.Cookie, 0));
        await writing;
        await server.DisposeAsync();
        await disposing;
        await client.DisposeAsync();
    }

    [Fact]
    public async Task DisposingDoesNotWaitForEverForASilentServer()
    {
        var time = new FakeTimeProvider();
        var (client, server) = await ConnectAsync(new NbdClientOptions { TimeProvider = time });
        await using var _ = server;
        var reading = client.ReadAsync(0, new byte[512], Token).AsTask();
        await server.ReadRequestAsync();
        var disposing = client.DisposeAsync().AsTask();
        Assert.Equal((ushort)NbdCommand.Disconnect, (await server.ReadRequestAsync()).Type);
        time.Advance(TimeSpan.FromSeconds(6));
        await disposing;
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(() => reading)).Reason);
    }

    [Fact]
    public async Task OffersOnlyWhatTheServerCan()
    {
        var (client, server) = await ConnectAsync(flags: 1);
        await using var _ = client;
        await using var __ = server;
        Assert.False(client.CanFlush || client.CanTrim || client.CanWriteZeroes || client.CanForceUnitAccess || client.ReadOnly || client.CanMultiConnect);
        Assert.Equal(FaultReason.Unsupported, (await Assert.ThrowsAsync<FaultException>(() => client.FlushAsync(Token).AsTask())).Reason);
        Assert.Equal(FaultReason.Unsupported, (await Assert.ThrowsAsync<FaultException>(() => client.TrimAsync(0, 512, Token).AsTask())).Reason);
        Assert.Equal(FaultReason.Unsupported, (await Assert.ThrowsAsync<FaultException>(() => client.WriteZeroesAsync(0, 512, Token).AsTask())).Reason);
    }

    [Fact]
    public async Task ConnectsByTcp()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var endpoint = NbdEndpoint.Tcp("127.0.0.1", ((IPEndPoint)listener.LocalEndpoint).Port);
        var connecting = NbdClient.ConnectAsync(endpoint, new NbdClientOptions(), Token);
        await using var server = new FakeServer(new NetworkStream(await listener.AcceptSocketAsync(Token), ownsSocket: true));
        await server.HandshakeAsync();
        await using var client = await connecting;
        Assert.Equal(FakeServer.Size, client.Size);
        var flushing = client.FlushAsync(Token).AsTask();
        await server.SendAsync(Error((await server.ReadRequestAsync()).Cookie, NbdError.ShuttingDown, ""));
        var failure = await Assert.ThrowsAsync<NbdErrorException>(() => flushing);
        Assert.Equal($"The NBD server at {endpoint} could not flush: ESHUTDOWN.", failure.Message);
        await server.DisposeAsync();
    }

    private static byte[] Filled(int length, byte value)
    {
        var bytes = new byte[length];
        bytes.AsSpan().Fill(value);
        return bytes;
    }

    private static async Task SpinUntilAsync(Func<bool> condition)
    {
        while (!condition())
        {
            Token.ThrowIfCancellationRequested();
            await Task.Yield();
        }
    }
}

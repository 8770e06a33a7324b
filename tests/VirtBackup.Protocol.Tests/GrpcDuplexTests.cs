using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Protocol.Tests;

/// <summary>gRPC's failures, and those that it lets through, become the product's.</summary>
public sealed class GrpcDuplexTests
{
    [Fact]
    public async Task A_connection_that_broke_below_grpc_is_a_peer_that_cannot_be_reached()
    {
        var broken = new HttpIOException(HttpRequestError.InvalidResponse, "The handshake was not completed.");
        await using var duplex = new GrpcDuplex<string, string>(
            new AsyncDuplexStreamingCall<string, string>(
                new BrokenWriter(broken), new BrokenReader(broken), Task.FromResult(new Metadata()), () => Status.DefaultSuccess, () => [], () => { }),
            "The controller");

        await RefusesAsync(async () => await duplex.SendAsync("hello", CancellationToken.None));
        await RefusesAsync(async () => await duplex.CompleteAsync());
        await RefusesAsync(async () => await duplex.ReceiveAsync(CancellationToken.None).GetAsyncEnumerator(TestContext.Current.CancellationToken).MoveNextAsync());
    }

    private static async Task RefusesAsync(Func<Task> call)
    {
        var fault = await Assert.ThrowsAsync<FaultException>(call);
        Assert.Equal(FaultReason.Unavailable, fault.Reason);
        Assert.Contains("The controller cannot be reached", fault.Message, StringComparison.Ordinal);
    }

    private sealed class BrokenWriter(Exception failure) : IClientStreamWriter<string>
    {
        public WriteOptions? WriteOptions { get; set; }

        public Task WriteAsync(string message) => Task.FromException(failure);

        public Task WriteAsync(string message, CancellationToken cancellationToken) => Task.FromException(failure);

        public Task CompleteAsync() => Task.FromException(failure);
    }

    private sealed class BrokenReader(Exception failure) : IAsyncStreamReader<string>
    {
        public string Current => throw new InvalidOperationException();

        public Task<bool> MoveNext(CancellationToken cancellationToken) => Task.FromException<bool>(failure);
    }
}

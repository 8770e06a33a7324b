using System.Diagnostics;
using System.Reflection;

namespace VirtBackup.Nbd.Tests;

[Collection(nameof(Alone))]
public sealed class AllocationTests
{
    [Fact]
    public async Task ReadsAllocateNextToNothing()
    {
        var token = TestContext.Current.CancellationToken;
        using var folder = new TempFolder();
        using var server = NbdServerProcess.StartNbdkit(folder, "memory", "16M");
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions(), token);
        using var cancel = new CancellationTokenSource();
        var buffer = new byte[64 << 10];
        const int reads = 4000;
        await ReadAsync(reads);
        var before = GC.GetTotalAllocatedBytes();
        await ReadAsync(reads);
        var perRead = (GC.GetTotalAllocatedBytes() - before) / reads;
        TestContext.Current.SendDiagnosticMessage($"{perRead} bytes per read");
        // Without optimisation, every state machine of an async method is an object.
        var debugging = typeof(NbdClient).Assembly.GetCustomAttribute<DebuggableAttribute>()?.IsJITOptimizerDisabled == true;
        Assert.InRange(perRead, 0, debugging ? 4096 : 128);

        async Task ReadAsync(int count)
        {
            for (var index = 0; index < count; index++)
            {
                await client.ReadAsync((index % 256) << 16, buffer, cancel.Token);
            }
        }
    }
}

using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Nbd.Tests;

/// <summary>Against qemu-nbd, the server that the hypervisor driver talks to.</summary>
public sealed class QemuNbdTests : IDisposable
{
    private const int MiB = 1 << 20;
    private readonly TempFolder _folder = new();
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task ReadsAnImageWithManyRequestsInFlight()
    {
        var content = RandomNumberGenerator.GetBytes(40 * MiB);
        await File.WriteAllBytesAsync(_folder.File("disk.raw"), content, Token);
        using var server = NbdServerProcess.StartQemuNbd(_folder, "--read-only", "--format=raw", _folder.File("disk.raw"));
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions { RequestsInFlightMax = 32 }, Token);
        Assert.Equal(content.Length, client.Size);
        Assert.True(client.ReadOnly);

        var read = new byte[content.Length];
        const int piece = 100_000;
        await Task.WhenAll(Enumerable.Range(0, (content.Length + piece - 1) / piece).Select(index =>
        {
            var start = index * piece;
            return client.ReadAsync(start, read.AsMemory(start, Math.Min(piece, content.Length - start)), Token).AsTask();
        }));
        Assert.True(content.AsSpan().SequenceEqual(read));

        // Longer than one request may be.
        Array.Clear(read);
        await client.ReadAsync(0, read, Token);
        Assert.True(content.AsSpan().SequenceEqual(read));

        Assert.Equal(FaultReason.Denied, (await Assert.ThrowsAsync<FaultException>(() => client.WriteAsync(0, new byte[512], Token).AsTask())).Reason);
        Assert.Equal(FaultReason.InvalidArgument,
            (await Assert.ThrowsAsync<FaultException>(() => client.ReadAsync(client.Size - 1, new byte[2], Token).AsTask())).Reason);
    }

    [Fact]
    public async Task WritesZeroesTrimsAndFlushes()
    {
        NbdServerProcess.Run(_folder, "qemu-img", "create", "-q", "-f", "qcow2", _folder.File("disk.qcow2"), "64M");
        var expected = new byte[64 * MiB];
        RandomNumberGenerator.Fill(expected.AsSpan(MiB, 40 * MiB));
        using (var server = NbdServerProcess.StartQemuNbd(_folder, "--format=qcow2", "--discard=unmap", _folder.File("disk.qcow2")))
        {
            await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions(), Token);
            Assert.True(client is { CanFlush: true, CanTrim: true, CanWriteZeroes: true, ReadOnly: false });
            await client.WriteAsync(MiB, expected.AsMemory(MiB, 40 * MiB), Token);
            await client.WriteZeroesAsync(2 * MiB, 3 * MiB, Token);
            expected.AsSpan(2 * MiB, 3 * MiB).Clear();
            await client.TrimAsync(50 * MiB, 10 * MiB, Token);
            await client.FlushAsync(Token);
        }
        using (var server = NbdServerProcess.StartQemuNbd(_folder, "--read-only", "--format=qcow2", _folder.File("disk.qcow2")))
        {
            var options = new NbdClientOptions { MetaContexts = [NbdContexts.BaseAllocation] };
            await using var client = await NbdClient.ConnectAsync(server.Endpoint, options, Token);
            var read = new byte[expected.Length];
            await client.ReadAsync(0, read, Token);
            Assert.True(expected.AsSpan().SequenceEqual(read));

            var extents = await client.BlockStatusAsync(NbdContexts.BaseAllocation, 0, client.Size, Token).ToListAsync(Token);
            AssertTiling(extents, 0, client.Size);
            Assert.Equal([(0L, true), (MiB, false), (2 * MiB, true), (5 * MiB, false), (41 * MiB, true)],
                extents.Select(extent => (extent.Offset, extent.IsZero)));
        }
    }

    [Fact]
    public async Task ReportsADirtyBitmap()
    {
        var image = _folder.File("disk.qcow2");
        NbdServerProcess.Run(_folder, "qemu-img", "create", "-q", "-f", "qcow2", image, "4G");
        NbdServerProcess.Run(_folder, "qemu-img", "bitmap", "--add", "-g", "65536", image, "daily");
        NbdServerProcess.Run(_folder, "qemu-io", "-f", "qcow2", "-c", "write 1M 64k", "-c", "write 3G 1M", image);
        // qemu-nbd exports only bitmaps that nothing writes to.
        NbdServerProcess.Run(_folder, "qemu-img", "bitmap", "--disable", image, "daily");

        var context = NbdContexts.QemuDirtyBitmap("daily");
        using var server = NbdServerProcess.StartQemuNbd(_folder, "--read-only", "--format=qcow2", "--bitmap=daily", image);
        var options = new NbdClientOptions { MetaContexts = [NbdContexts.BaseAllocation, context, NbdContexts.QemuDirtyBitmap("other")] };
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, options, Token);
        Assert.Equal([NbdContexts.BaseAllocation, context], client.Contexts);

        var extents = await client.BlockStatusAsync(context, 0, client.Size, Token).ToListAsync(Token);
        AssertTiling(extents, 0, client.Size);
        Assert.Equal([new ByteRange(MiB, 65536), new ByteRange(3L << 30, MiB)],
            extents.Where(extent => extent.IsDirty).Select(extent => new ByteRange(extent.Offset, extent.Length)));

        // A part that begins and ends inside extents.
        var part = await client.BlockStatusAsync(context, MiB + 512, 100_352, Token).ToListAsync(Token);
        Assert.Equal([new NbdExtent(MiB + 512, 65_024, 1), new NbdExtent(MiB + 65536, 35_328, 0)], part);

        var refusal = Assert.Throws<FaultException>(() => client.BlockStatusAsync(NbdContexts.QemuDirtyBitmap("other"), 0, 512, Token));
        Assert.Equal(FaultReason.Unsupported, refusal.Reason);
    }

    [Fact]
    public async Task OpensExportsByName()
    {
        await File.WriteAllBytesAsync(_folder.File("disk.raw"), new byte[MiB], Token);
        using var server = NbdServerProcess.StartQemuNbd(_folder, "--format=raw", "--export-name=disk-0", _folder.File("disk.raw"));
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions { ExportName = "disk-0" }, Token);
        Assert.Equal(MiB, client.Size);

        var missing = await Assert.ThrowsAsync<FaultException>(
            () => NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions { ExportName = "disk-1" }, Token));
        Assert.Equal(FaultReason.NotFound, missing.Reason);
        Assert.Contains("disk-1", missing.Message, StringComparison.Ordinal);

        var nobody = await Assert.ThrowsAsync<FaultException>(
            () => NbdClient.ConnectAsync(NbdEndpoint.Unix(_folder.File("no.sock")), new NbdClientOptions(), Token));
        Assert.Equal(FaultReason.Unavailable, nobody.Reason);
    }

    internal static void AssertTiling(IReadOnlyList<NbdExtent> extents, long offset, long length)
    {
        var end = offset;
        foreach (var extent in extents)
        {
            Assert.Equal(end, extent.Offset);
            Assert.True(extent.Length > 0);
            end = extent.End;
        }
        Assert.Equal(offset + length, end);
    }
}

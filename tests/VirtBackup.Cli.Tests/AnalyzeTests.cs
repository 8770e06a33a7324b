using VirtBackup.Cli.Tests.Fixtures;

namespace VirtBackup.Cli.Tests;

public sealed class AnalyzeTests : IDisposable
{
    private readonly TempFolder _home = new();

    [Fact]
    public async Task Images_share_chunks_and_zeros_cost_nothing()
    {
        var noise = new byte[4 << 20];
        new Random(7).NextBytes(noise);
        File.WriteAllBytes(_home.File("a"), [.. noise, .. new byte[4 << 20]]);
        // The same 4 MiB, then 256 KiB of text, then a tail that is shorter than every chunk.
        File.WriteAllBytes(_home.File("b"), [.. noise, .. Enumerable.Repeat((byte)'x', 256 << 10), 1, 2, 3]);
        var result = (await CommandLine.RunAsync(_home, "analyze", "a", "b", "-o", "json")).Succeeds().Json;
        Assert.Equal([8L << 20, (4L << 20) + (256 << 10) + 3], result["images"]!.AsArray().Select(image => (long)image!["bytes"]!));
        foreach (var size in result["chunk_sizes"]!.AsArray())
        {
            Assert.Equal((12L << 20) + (256 << 10) + 3, (long)size!["logical_bytes"]!);
            Assert.Equal(4L << 20, (long)size["zero_bytes"]!);
            Assert.False((bool)size["estimated"]!);
            // Where cuts follow the content, the noise's last chunk differs from image to image.
            var differs = (string)size["chunker"]! == "fixed" ? 0 : 4 * (int)size["chunk_bytes"]!;
            Assert.InRange((long)size["stored_bytes"]!, 4L << 20, (4L << 20) + (64 << 10) + differs);
        }
        var small = result["chunk_sizes"]![0]!;
        // 64 of noise, one of text (four times the same), the tail.
        Assert.Equal((65536, 64 + 1 + 1), ((int)small["chunk_bytes"]!, (int)small["unique_chunks"]!));
        Assert.Equal(64 + 64 + 64 + 4 + 1, (int)small["chunks"]!);
        Assert.Equal(4L << 20 | 65536 | 3, (long)small["unique_bytes"]!);
        Assert.Equal([65536, 262144, 1 << 20, 4 << 20, 65536, 131072, 262144], result["chunk_sizes"]!.AsArray().Select(size => (int)size!["chunk_bytes"]!));
        var table = (await CommandLine.RunAsync(_home, "analyze", "a", "b")).Succeeds().Output;
        Assert.Contains("256 KiB", table);
        Assert.Contains("2 images together", table);
        Assert.Contains("content", table);
    }

    [Fact]
    public async Task Images_of_other_formats_and_missing_ones_are_refused()
    {
        File.WriteAllBytes(_home.File("disk.qcow2"), [(byte)'Q', (byte)'F', (byte)'I', 0xfb, 0, 0, 0, 3, 0, 0]);
        File.WriteAllBytes(_home.File("empty"), []);
        (await CommandLine.RunAsync(_home, "analyze", "disk.qcow2")).Fails(4, "qcow2", "qemu-img convert -O raw 'disk.qcow2' 'disk.qcow2.raw'");
        (await CommandLine.RunAsync(_home, "analyze", "empty")).Fails(4, "empty");
        (await CommandLine.RunAsync(_home, "analyze", "missing")).Fails(5, "does not exist");
    }

    public void Dispose() => _home.Dispose();
}

using System.Runtime.InteropServices;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Images;

public sealed class ImageWriterTests
{
    private const int ChunkBytes = 64 << 10;

    public static TheoryData<string, string> Places => new()
    {
        { Path.GetTempPath(), "raw" },
        { Path.GetTempPath(), "qcow2" },
        { "/dev/shm", "raw" }, // another file system, which may or may not know writes past its cache
    };

    [Theory]
    [MemberData(nameof(Places))]
    public async Task What_was_written_is_in_the_image_wherever_it_lay_in_memory(string place, string format)
    {
        var folder = Directory.CreateDirectory(Path.Combine(place, Path.GetRandomFileName())).FullName;
        try
        {
            var random = new Random(7);
            // The last chunk is no number of whole pages.
            var expected = new byte[(40 * ChunkBytes) + 1536];
            var disk = new RestoreDisk(new Id16(1), "a", expected.Length, format, expected.Length);
            await using var writer = await ImageWriter.CreateAsync(
                disk, Path.Combine(folder, $"a.{format}"), Path.Combine(folder, "a.sock"), DiskPreallocation.None, new ImageTools(), default);
            var writes = Enumerable.Range(0, 41).Where(chunk => chunk % 5 != 2).OrderBy(_ => random.Next()).Select(async chunk =>
            {
                var offset = chunk * ChunkBytes;
                var length = Math.Min(ChunkBytes, expected.Length - offset);
                var source = Lay(chunk % 2 == 0 ? 0 : 1 + random.Next(4000), length);
                random.NextBytes(source.Span);
                source.CopyTo(expected.AsMemory(offset));
                await writer.WriteAsync(offset, source, default);
            });
            await Task.WhenAll(writes.ToArray());
            await writer.FinishAsync(default);
            Assert.Equal([$"a.{format}"], Directory.GetFiles(folder).Select(Path.GetFileName));

            var plain = Path.Combine(folder, "plain");
            await new ProcessRunner(TimeProvider.System).RequireAsync("qemu-img", ["convert", "-f", format, "-O", "raw", writer.Path, plain], TimeSpan.FromMinutes(1), default);
            Assert.True(File.ReadAllBytes(plain).AsSpan(0, expected.Length).SequenceEqual(expected));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task Whole_pages_go_past_the_page_cache_and_the_rest_is_left_to_the_caller()
    {
        using var folder = new LabDirectory();
        var path = folder.File("disk");
        await File.WriteAllBytesAsync(path, new byte[4 * ChunkBytes]);
        using var file = UncachedFile.TryOpen(path);
        Assert.NotNull(file);
        Assert.True(await file.TryWriteAsync(ChunkBytes, Filled(Lay(0, ChunkBytes)), default));
        Assert.False(await file.TryWriteAsync(0, Filled(Lay(512, ChunkBytes)), default));
        Assert.False(await file.TryWriteAsync(512, Filled(Lay(0, ChunkBytes)), default));
        Assert.False(await file.TryWriteAsync(0, Filled(Lay(0, ChunkBytes - 512)), default));
        Assert.False(await file.TryWriteAsync(0, ReadOnlyMemory<byte>.Empty, default));

        var content = await File.ReadAllBytesAsync(path);
        Assert.Equal(ChunkBytes, content.AsSpan().IndexOf((byte)0xa5));
        Assert.Equal((2 * ChunkBytes) - 1, content.AsSpan().LastIndexOf((byte)0xa5));
        Assert.Equal(4 * ChunkBytes, content.Length);
    }

    /// <summary>Pinned memory that begins so many bytes behind a page boundary.</summary>
    private static Memory<byte> Lay(int beyond, int length)
    {
        var array = GC.AllocateArray<byte>(length + (2 * Limits.PageBytes), pinned: true);
        var start = Limits.PageBytes - (int)(Marshal.UnsafeAddrOfPinnedArrayElement(array, 0) % Limits.PageBytes);
        return array.AsMemory(start + beyond, length);
    }

    private static Memory<byte> Filled(Memory<byte> memory)
    {
        memory.Span.Fill(0xa5);
        return memory;
    }
}

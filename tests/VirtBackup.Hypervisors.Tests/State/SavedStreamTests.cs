using System.Buffers.Binary;
using System.Text;
using VirtBackup.Core;
using VirtBackup.Hypervisors.State;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.State;

public sealed class SavedStreamTests
{
    private static readonly byte[] Tail = [4, 0, 0, 0, 9, 5, .. "timer"u8, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 3, 0x7e, 0, 0, 0, 9, 0];

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Pages_in_any_order_are_found_by_address_and_put_together_again(int seed)
    {
        using var scratch = new LabDirectory();
        var random = new Random(seed);
        var memory = new byte[3][];
        (string Name, int Pages)[] blocks = [("pc.ram", 300), ("vga.vram", 40), ("pc.bios", 7)];
        for (var i = 0; i < blocks.Length; i++)
        {
            memory[i] = new byte[blocks[i].Pages * MemoryLayout.PageBytes];
            for (var page = 0; page < blocks[i].Pages; page++)
            {
                if (random.Next(3) > 0)
                {
                    random.NextBytes(memory[i].AsSpan(page * MemoryLayout.PageBytes, random.Next(1, MemoryLayout.PageBytes)));
                }
            }
        }
        var stream = Write(blocks, memory, random);
        await File.WriteAllBytesAsync(scratch.File("saved"), stream);
        using var spooled = SpooledState.Open(scratch.File("saved"), new Id16(1), new Id16(2));

        var image = await ReadAsync(spooled.Memory, random);
        for (var i = 0; i < blocks.Length; i++)
        {
            Assert.True(memory[i].AsSpan().SequenceEqual(image.AsSpan(Offset(blocks, i), memory[i].Length)), $"{blocks[i].Name} differs.");
        }
        var devices = new byte[spooled.Devices.Disk.LengthBytes];
        await spooled.Devices.ReadAsync(0, devices, default);
        var document = StateDocument.Read(devices, out var length);
        Assert.Equal(Tail, devices[length..]);

        // What is made of it holds the same, and begins and ends as the saved one did.
        await File.WriteAllBytesAsync(scratch.File("memory"), image);
        using var rebuilt = new MemoryStream();
        using (var file = File.OpenHandle(scratch.File("memory")))
        {
            await RebuiltStream.WriteAsync(document, file, new MemoryStream(Tail), rebuilt, default);
        }
        Assert.Equal(Head, rebuilt.ToArray()[..Head.Length]);
        await File.WriteAllBytesAsync(scratch.File("again"), rebuilt.ToArray());
        using var again = SpooledState.Open(scratch.File("again"), new Id16(1), new Id16(2));
        Assert.Equal(image, await ReadAsync(again.Memory, random));
        var devicesAgain = new byte[again.Devices.Disk.LengthBytes];
        await again.Devices.ReadAsync(0, devicesAgain, default);
        Assert.Equal(devices, devicesAgain);
    }

    [Fact]
    public void Damaged_streams_are_refused_with_a_sentence_and_without_much_memory()
    {
        var random = new Random(7);
        var whole = Write([("pc.ram", 20), ("vga", 3)], [RandomPages(random, 20), RandomPages(random, 3)], random);
        var (accepted, refused) = (0, 0);
        for (var trial = 0; trial < 1500; trial++)
        {
            var bytes = whole.ToArray();
            // Most of it is page content, which nobody judges: the damage goes where the structure is.
            for (var i = random.Next(1, 4); i > 0; i--)
            {
                bytes[random.Next(3) == 0 ? random.Next(bytes.Length) : random.Next(200)] = random.Next(2) == 0 ? (byte)random.Next(256) : (byte)0xff;
            }
            var length = random.Next(3) == 0 ? random.Next(bytes.Length) : bytes.Length;
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                SavedStream.Parse((target, offset) =>
                {
                    var count = (int)Math.Min(target.Length, length - offset);
                    bytes.AsSpan((int)offset, count).CopyTo(target);
                    return count;
                }, length);
                accepted++;
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Unsupported)
            {
                Assert.EndsWith(".", fault.Message, StringComparison.Ordinal);
                refused++;
            }
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4 << 20);
        }
        Assert.True(accepted > 0 && refused > 500, $"{accepted} accepted, {refused} refused");
    }

    [Fact]
    public void Parts_that_cannot_be_stored_by_address_are_named()
    {
        byte[] other = [.. Head, 1, 0, 0, 0, 2, 4, .. "vfio"u8, 0, 0, 0, 0, 0, 0, 0, 1];
        var fault = Assert.Throws<FaultException>(() => SavedStream.Parse((target, offset) =>
        {
            var count = (int)Math.Min(target.Length, other.Length - offset);
            other.AsSpan((int)offset, count).CopyTo(target);
            return count;
        }, other.Length));
        Assert.Equal(FaultReason.Unsupported, fault.Reason);
        Assert.Contains("'vfio'", fault.Message, StringComparison.Ordinal);
    }

    private static byte[] RandomPages(Random random, int count)
    {
        var pages = new byte[count * MemoryLayout.PageBytes];
        random.NextBytes(pages);
        return pages;
    }

    private static byte[] Head => [.. "QEVM"u8, 0, 0, 0, 3, 7, 0, 0, 0, 3, .. "q35"u8];

    private static int Offset((string Name, int Pages)[] blocks, int index)
    {
        var offset = 0;
        for (var i = 0; i <= index; i++)
        {
            offset = (offset + MemoryLayout.Alignment - 1) / MemoryLayout.Alignment * MemoryLayout.Alignment;
            offset += i < index ? blocks[i].Pages * MemoryLayout.PageBytes : 0;
        }
        return offset;
    }

    private static async Task<byte[]> ReadAsync(ICapturedDisk memory, Random random)
    {
        var image = new byte[memory.Disk.LengthBytes];
        await foreach (var extent in memory.ListExtentsAsync(default))
        {
            for (var at = extent.Offset; at < extent.End;)
            {
                var count = (int)Math.Min(extent.End - at, random.Next(1, 200_000));
                await memory.ReadAsync(at, image.AsMemory((int)at, count), default);
                at += count;
            }
        }
        return image;
    }

    /// <summary>As QEMU writes it, in the order of faults, some pages twice with the last one right.</summary>
    private static byte[] Write((string Name, int Pages)[] blocks, byte[][] memory, Random random)
    {
        var bytes = new List<byte>([.. Head, 1, .. Word(5), 3, .. "ram"u8, .. Word(0), .. Word(4), .. Long((ulong)memory.Sum(block => block.Length) | 4)]);
        foreach (var (name, pages) in blocks)
        {
            bytes.AddRange([(byte)name.Length, .. Encoding.ASCII.GetBytes(name), .. Long((ulong)pages * MemoryLayout.PageBytes)]);
        }
        bytes.AddRange([.. Long(0x10), 0x7e, .. Word(5)]);
        var order = blocks.SelectMany((block, index) => Enumerable.Range(0, block.Pages).Select(page => (Block: index, Page: page))).ToList();
        for (var i = 0; i < order.Count / 4; i++)
        {
            var (a, b) = (random.Next(order.Count), random.Next(order.Count));
            (order[a], order[b]) = (order[b], order[a]);
        }
        var last = -1;
        foreach (var (number, (block, page)) in order.Index())
        {
            if (number % 50 == 0)
            {
                bytes.AddRange([.. number == 0 ? [] : (byte[])[.. Long(0x10), 0x7e, .. Word(5)], 2, .. Word(5)]);
            }
            if (random.Next(20) == 0)
            {
                AddPage(bytes, blocks, block, page, RandomPages(random, 1), ref last); // an earlier word, which does not count
            }
            AddPage(bytes, blocks, block, page, memory[block].AsSpan(page * MemoryLayout.PageBytes, MemoryLayout.PageBytes), ref last);
        }
        bytes.AddRange([.. Long(0x10), 0x7e, .. Word(5), 3, .. Word(5), .. Long(0x10), 0x7e, .. Word(5), .. Tail]);
        return [.. bytes];
    }

    private static void AddPage(List<byte> bytes, (string Name, int Pages)[] blocks, int block, int page, ReadOnlySpan<byte> content, ref int last)
    {
        var isZero = !content.ContainsAnyExcept((byte)0);
        bytes.AddRange(Long(((ulong)page * MemoryLayout.PageBytes) | (isZero ? 2UL : 8UL) | (last == block ? 0x20UL : 0)));
        if (last != block)
        {
            bytes.AddRange([(byte)blocks[block].Name.Length, .. Encoding.ASCII.GetBytes(blocks[block].Name)]);
            last = block;
        }
        bytes.AddRange(isZero ? [0] : content);
    }

    private static byte[] Word(uint value)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        return bytes;
    }

    private static byte[] Long(ulong value)
    {
        var bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        return bytes;
    }
}

using System.Buffers.Binary;
using System.Text;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.State;

/// <summary>Makes of a stored state the migration stream that QEMU loads: the same as was saved, but for the order of the pages.</summary>
internal static class RebuiltStream
{
    /// <param name="memory">The memory stream.</param>
    /// <param name="devices">The device-state stream behind its document.</param>
    public static async Task WriteAsync(StateDocument document, SafeFileHandle memory, Stream devices, Stream target, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(document);
        await target.WriteAsync(document.Head, cancellationToken);
        await target.WriteAsync(SectionStart(document), cancellationToken);
        var source = new byte[MemoryLayout.Alignment];
        var framed = new byte[(MemoryLayout.Alignment / MemoryLayout.PageBytes * SavedStream.Stride) + 512];
        foreach (var block in document.Layout.Blocks)
        {
            for (long offset = 0; offset < block.LengthBytes; offset += source.Length)
            {
                var count = (int)Math.Min(source.Length, block.LengthBytes - offset);
                await ReadAsync(memory, source.AsMemory(0, count), block.Offset + offset, cancellationToken);
                await target.WriteAsync(framed.AsMemory(0, Frame(document.SectionId, block, offset, source.AsSpan(0, count), framed)), cancellationToken);
            }
        }
        await devices.CopyToAsync(target, cancellationToken);
    }

    private static byte[] SectionStart(StateDocument document)
    {
        var bytes = new ArrayWriter();
        bytes.Byte(SavedStream.Start);
        bytes.UInt32(document.SectionId);
        bytes.Name(SavedStream.MemorySection);
        bytes.UInt32(document.InstanceId);
        bytes.UInt32(document.SectionVersion);
        bytes.UInt64((ulong)document.Layout.Blocks.Sum(block => block.LengthBytes) | SavedStream.Sizes);
        foreach (var block in document.Layout.Blocks)
        {
            bytes.Name(block.Name);
            bytes.UInt64((ulong)block.LengthBytes);
        }
        bytes.UInt64(SavedStream.EndOfSection);
        bytes.Byte(SavedStream.Footer);
        bytes.UInt32(document.SectionId);
        return bytes.ToArray();
    }

    /// <summary>One part of the memory section. Zeros are told, too: firmware has written to some pages of a machine that has just been started.</summary>
    private static int Frame(uint section, MemoryBlock block, long offset, ReadOnlySpan<byte> source, Span<byte> target)
    {
        var at = 0;
        target[at++] = SavedStream.Part;
        BinaryPrimitives.WriteUInt32BigEndian(target[at..], section);
        at += sizeof(uint);
        for (var from = 0; from < source.Length; from += MemoryLayout.PageBytes)
        {
            var page = source.Slice(from, MemoryLayout.PageBytes);
            var isZero = !page.ContainsAnyExcept((byte)0);
            BinaryPrimitives.WriteUInt64BigEndian(target[at..], (ulong)(offset + from) | (isZero ? SavedStream.Zero : SavedStream.Page) | (from > 0 ? SavedStream.Continue : 0));
            at += sizeof(ulong);
            if (from == 0)
            {
                target[at++] = (byte)block.Name.Length;
                at += Encoding.ASCII.GetBytes(block.Name, target[at..]);
            }
            if (isZero)
            {
                target[at++] = 0;
            }
            else
            {
                page.CopyTo(target[at..]);
                at += page.Length;
            }
        }
        BinaryPrimitives.WriteUInt64BigEndian(target[at..], SavedStream.EndOfSection);
        at += sizeof(ulong);
        target[at++] = SavedStream.Footer;
        BinaryPrimitives.WriteUInt32BigEndian(target[at..], section);
        return at + sizeof(uint);
    }

    private static async ValueTask ReadAsync(SafeFileHandle file, Memory<byte> target, long offset, CancellationToken cancellationToken)
    {
        for (var at = 0; at < target.Length;)
        {
            var count = await RandomAccess.ReadAsync(file, target[at..], offset + at, cancellationToken);
            at += count > 0 ? count : throw FaultException.Malformed("The memory to be restored is shorter than its layout says.");
        }
    }

    private sealed class ArrayWriter
    {
        private readonly List<byte> bytes = [];

        public void Byte(byte value) => bytes.Add(value);

        public void UInt32(uint value)
        {
            Span<byte> four = stackalloc byte[sizeof(uint)];
            BinaryPrimitives.WriteUInt32BigEndian(four, value);
            bytes.AddRange(four);
        }

        public void UInt64(ulong value)
        {
            Span<byte> eight = stackalloc byte[sizeof(ulong)];
            BinaryPrimitives.WriteUInt64BigEndian(eight, value);
            bytes.AddRange(eight);
        }

        public void Name(string name)
        {
            bytes.Add((byte)name.Length);
            bytes.AddRange(Encoding.ASCII.GetBytes(name));
        }

        public byte[] ToArray() => [.. bytes];
    }
}

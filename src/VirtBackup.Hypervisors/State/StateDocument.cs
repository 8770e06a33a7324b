using System.Buffers.Binary;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.State;

/// <summary>
/// The start of the device-state stream (FORMAT.md, "Running state"): how the memory stream is laid out, what stood in front of the
/// memory in the hypervisor's stream, and the numbers of its memory section. What stood behind the memory follows, to the stream's end.
/// </summary>
/// <param name="Head">The hypervisor's bytes in front of the memory section.</param>
internal sealed record StateDocument(uint SectionId, uint InstanceId, uint SectionVersion, MemoryLayout Layout, ReadOnlyMemory<byte> Head)
{
    public const int HeadBytesMax = 1 << 20;
    private const int FixedBytes = 44;
    private const byte Version = 1;
    private const byte QemuMigration = 1;

    private static ReadOnlySpan<byte> Magic => "VBSTATE\x1a"u8;

    public byte[] Write()
    {
        Check.That(Head.Length is > 0 and <= HeadBytesMax);
        var length = FixedBytes + Layout.Blocks.Sum(block => 1 + block.Name.Length + (2 * sizeof(ulong))) + Head.Length;
        var bytes = new byte[length];
        Magic.CopyTo(bytes);
        bytes[8] = Version;
        bytes[9] = QemuMigration;
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(12), (uint)length);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(16), MemoryLayout.PageBytes);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(20), SectionId);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(24), InstanceId);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(28), SectionVersion);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(32), (uint)Layout.Blocks.Count);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(36), (uint)Head.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(40), MemoryLayout.Alignment);
        var at = FixedBytes;
        foreach (var block in Layout.Blocks)
        {
            bytes[at++] = (byte)block.Name.Length;
            at += Encoding.ASCII.GetBytes(block.Name, bytes.AsSpan(at));
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(at), (ulong)block.LengthBytes);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(at + sizeof(ulong)), (ulong)block.Offset);
            at += 2 * sizeof(ulong);
        }
        Head.Span.CopyTo(bytes.AsSpan(at));
        return bytes;
    }

    /// <summary>Bytes that a document can have at most.</summary>
    public const int BytesMax = FixedBytes + (MemoryLayout.BlocksMax * 272) + HeadBytesMax;

    /// <param name="bytes">The start of the stream; at least the document.</param>
    /// <param name="length">Of the document: what stood behind the memory begins there.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>, or <see cref="FaultReason.Unsupported"/> for another version or hypervisor.</exception>
    public static StateDocument Read(ReadOnlySpan<byte> bytes, out int length)
    {
        if (bytes.Length < FixedBytes || !bytes.StartsWith(Magic))
        {
            throw FaultException.Malformed("The stored device state does not begin as one.");
        }
        if (bytes[8] != Version || bytes[9] != QemuMigration)
        {
            throw new FaultException(FaultReason.Unsupported, $"The stored device state has version {bytes[8]} and kind {bytes[9]}; this program reads version {Version} and kind {QemuMigration}. Use a newer release.");
        }
        var declared = BinaryPrimitives.ReadUInt32LittleEndian(bytes[12..]);
        var count = BinaryPrimitives.ReadUInt32LittleEndian(bytes[32..]);
        var head = BinaryPrimitives.ReadUInt32LittleEndian(bytes[36..]);
        if (declared > bytes.Length || count > MemoryLayout.BlocksMax || head is 0 or > HeadBytesMax || bytes[10] != 0 || bytes[11] != 0
            || BinaryPrimitives.ReadUInt32LittleEndian(bytes[16..]) != MemoryLayout.PageBytes || BinaryPrimitives.ReadUInt32LittleEndian(bytes[40..]) != MemoryLayout.Alignment)
        {
            throw FaultException.Malformed("The stored device state has numbers that are out of bounds.");
        }
        var layout = new MemoryLayout();
        var at = FixedBytes;
        for (var i = 0; i < count; i++)
        {
            var name = Part(bytes[..(int)declared], ref at, Part(bytes[..(int)declared], ref at, 1)[0]);
            if (!MemoryLayout.IsName(name))
            {
                throw FaultException.Malformed("The stored device state has a memory block whose name is not plain text.");
            }
            layout.Add(Encoding.ASCII.GetString(name), BinaryPrimitives.ReadUInt64LittleEndian(Part(bytes[..(int)declared], ref at, sizeof(ulong))));
            if (BinaryPrimitives.ReadUInt64LittleEndian(Part(bytes[..(int)declared], ref at, sizeof(ulong))) != (ulong)layout.Blocks[^1].Offset)
            {
                throw FaultException.Malformed($"The stored device state places the memory block '{layout.Blocks[^1].Name}' where it cannot be.");
            }
        }
        var front = Part(bytes[..(int)declared], ref at, (int)head).ToArray();
        length = (int)declared;
        return at == declared
            ? new StateDocument(BinaryPrimitives.ReadUInt32LittleEndian(bytes[20..]), BinaryPrimitives.ReadUInt32LittleEndian(bytes[24..]), BinaryPrimitives.ReadUInt32LittleEndian(bytes[28..]), layout, front)
            : throw FaultException.Malformed("The stored device state does not have the length that its parts call for.");
    }

    private static ReadOnlySpan<byte> Part(ReadOnlySpan<byte> bytes, ref int at, int count)
    {
        if (count > bytes.Length - at)
        {
            throw FaultException.Malformed("The stored device state ends in the middle of its layout.");
        }
        at += count;
        return bytes.Slice(at - count, count);
    }
}

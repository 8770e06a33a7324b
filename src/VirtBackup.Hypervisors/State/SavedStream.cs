using VirtBackup.Core;

namespace VirtBackup.Hypervisors.State;

/// <summary>
/// A saved migration stream of QEMU, taken apart (QEMU docs/devel/migration, migration/savevm.c and ram.c): what stands in front of the
/// memory, where each page of it lies, and what stands behind. The devices' own parts are not looked into: QEMU alone knows their lengths.
/// </summary>
/// <param name="TailOffset">Where the devices begin in the stream.</param>
/// <param name="LengthBytes">Of the stream.</param>
internal sealed record SavedStream(StateDocument Document, PageIndex Pages, long TailOffset, long LengthBytes)
{
    /// <summary>What the devices' parts may take together.</summary>
    public const long TailBytesMax = 1L << 30;

    /// <summary>A page that continues a block: eight bytes of address in front of it.</summary>
    public const int Stride = sizeof(ulong) + MemoryLayout.PageBytes;

    internal const string MemorySection = "ram";
    internal const byte Start = 1, Part = 2, Footer = 0x7e;
    internal const ulong Zero = 2, Sizes = 4, Page = 8, EndOfSection = 0x10, Continue = 0x20;
    private const uint Magic = 0x5145564d; // "QEVM"
    private const uint StreamVersion = 3;
    private const int ConfigurationBytesMax = 256;
    private const byte Last = 3, Full = 4, Subsection = 5, Configuration = 7;
    private const ulong FlagMask = MemoryLayout.PageBytes - 1;

    /// <param name="length">Of what was saved.</param>
    /// <param name="from">Where QEMU's stream begins in it, behind what others wrote, which is kept with the head.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>; <see cref="FaultReason.Unsupported"/>: it has parts that cannot be stored by address.</exception>
    public static SavedStream Parse(SpoolSource source, long length, long from = 0)
    {
        var reader = new SpoolReader(source, length);
        reader.Skip(from);
        if (reader.UInt32() != Magic || reader.UInt32() != StreamVersion)
        {
            throw FaultException.Malformed("The saved state is not a migration stream of QEMU.");
        }
        if (reader.Peek() == Configuration)
        {
            SkipConfiguration(reader);
        }
        var head = ReadHead(source, reader.Position);
        var layout = new MemoryLayout();
        var pages = new PageIndex(Stride);
        // It goes on from section to section.
        MemoryBlock? block = null;
        (uint Id, uint Instance, uint Version)? memory = null;
        while (true)
        {
            var position = reader.Position;
            switch (reader.Byte())
            {
                case Start when memory is null:
                    var id = reader.UInt32();
                    var name = reader.Name();
                    if (name != MemorySection)
                    {
                        throw new FaultException(FaultReason.Unsupported, $"The machine's state has a part '{name}' that is transferred like memory, and cannot be stored.");
                    }
                    memory = (id, reader.UInt32(), reader.UInt32());
                    ReadPages(reader, layout, pages, ref block);
                    RequireFooter(reader, id);
                    break;
                case Part or Last when memory is { } section:
                    if (reader.UInt32() != section.Id)
                    {
                        throw FaultException.Malformed($"The saved state goes on at {position} with a section that was not begun.");
                    }
                    ReadPages(reader, layout, pages, ref block);
                    RequireFooter(reader, section.Id);
                    break;
                case Full when memory is { } section && layout.Blocks.Count > 0:
                    if (reader.Length - position > TailBytesMax)
                    {
                        throw FaultException.Malformed($"The saved state has {reader.Length - position} bytes of devices; at most {TailBytesMax} are stored.");
                    }
                    pages.Finish();
                    return new SavedStream(new StateDocument(section.Id, section.Instance, section.Version, layout, head), pages, position, length);
                case Start:
                    throw new FaultException(FaultReason.Unsupported, "The machine's state has more than one part that is transferred like memory, and cannot be stored.");
                case var other:
                    throw FaultException.Malformed($"The saved state has a section of kind {other} at {position}, where memory was expected.");
            }
        }
    }

    private static byte[] ReadHead(SpoolSource source, long length)
    {
        var head = new byte[length <= StateDocument.HeadBytesMax ? length : throw FaultException.Malformed($"The saved state has {length} bytes in front of the memory.")];
        for (var at = 0; at < head.Length;)
        {
            var count = source(head.AsSpan(at), at);
            at += count > 0 ? count : throw FaultException.Malformed("The saved state was cut short while it was read.");
        }
        return head;
    }

    // vmstate_configuration: the machine type, and subsections of which each form is known.
    private static void SkipConfiguration(SpoolReader reader)
    {
        reader.Byte();
        var length = reader.UInt32();
        if (length > ConfigurationBytesMax)
        {
            throw FaultException.Malformed($"The saved state names a machine type of {length} characters.");
        }
        reader.Skip(length);
        for (var count = 0; reader.Peek() == Subsection; count++)
        {
            reader.Byte();
            var name = reader.Name();
            reader.UInt32();
            switch (name)
            {
                case "configuration/target-page-bits":
                    if (reader.UInt32() != 12)
                    {
                        throw new FaultException(FaultReason.Unsupported, $"The machine's memory pages do not have {MemoryLayout.PageBytes} bytes.");
                    }
                    break;
                case "configuration/capabilities":
                    SkipNames(reader, reader.UInt32());
                    break;
                case "configuration/uuid":
                    reader.Skip(Id16.Size);
                    break;
                default:
                    throw new FaultException(FaultReason.Unsupported, $"The saved state has the configuration '{name}', which this program does not know. Use a newer release.");
            }
            if (count > ConfigurationBytesMax || reader.Position > StateDocument.HeadBytesMax)
            {
                throw FaultException.Malformed("The saved state's configuration does not end.");
            }
        }
    }

    private static void SkipNames(SpoolReader reader, uint count)
    {
        if (count > ConfigurationBytesMax)
        {
            throw FaultException.Malformed($"The saved state names {count} capabilities.");
        }
        for (; count > 0; count--)
        {
            reader.Skip(reader.Byte());
        }
    }

    // The same command in front of every page, and its block's name only where it is another one than before.
    private static void ReadPages(SpoolReader reader, MemoryLayout layout, PageIndex pages, ref MemoryBlock? block)
    {
        while (true)
        {
            var word = reader.UInt64();
            var (flags, address) = (word & FlagMask, word & ~FlagMask);
            switch (flags & ~Continue)
            {
                case EndOfSection when word == EndOfSection:
                    return;
                case Sizes when flags == Sizes && layout.Blocks.Count == 0:
                    ReadSizes(reader, layout, address);
                    continue;
                case Zero or Page:
                    break;
                default:
                    throw new FaultException(FaultReason.Unsupported, $"The saved state has memory in a form ({flags:x}) that cannot be stored by address.");
            }
            if ((flags & Continue) == 0)
            {
                block = layout.Find(reader.Name());
            }
            if (block is null || address >= (ulong)block.LengthBytes)
            {
                throw FaultException.Malformed($"The saved state has a page at {address} {(block is null ? "of no memory block" : $"behind the end of the memory block '{block.Name}'")}.");
            }
            var page = (block.Offset + (long)address) / MemoryLayout.PageBytes;
            if ((flags & Page) != 0)
            {
                pages.Add(page, reader.Position);
                reader.Skip(MemoryLayout.PageBytes);
            }
            else if (reader.Byte() == 0)
            {
                pages.AddZeros(page);
            }
            else
            {
                throw new FaultException(FaultReason.Unsupported, "The saved state has pages that are filled with one byte, as no QEMU of today writes them.");
            }
        }
    }

    private static void ReadSizes(SpoolReader reader, MemoryLayout layout, ulong total)
    {
        for (ulong listed = 0; listed < total;)
        {
            var name = reader.Name();
            var length = reader.UInt64();
            layout.Add(name, length);
            listed += length;
            if (listed > total)
            {
                throw FaultException.Malformed("The saved state lists more memory than it says.");
            }
        }
    }

    private static void RequireFooter(SpoolReader reader, uint section)
    {
        if (reader.Byte() != Footer || reader.UInt32() != section)
        {
            throw FaultException.Malformed($"The saved state lacks the footer of its memory at {reader.Position}.");
        }
    }
}

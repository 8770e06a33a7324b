using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;

namespace VirtBackup.Format.Tests;

/// <summary>Fixed inputs from which the golden bytes were made (independently, from FORMAT.md).</summary>
internal static class Samples
{
    public static Id16 Name(byte value) => Id16.Read(Filled(value, 16));

    public static Id32 Hash(byte value) => Id32.Read(Filled(value, 32));

    public static byte[] Filled(byte value, int length)
    {
        var bytes = new byte[length];
        bytes.AsSpan().Fill(value);
        return bytes;
    }

    public static string Hex(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(bytes);

    public static RecordHeader DataHeader { get; } = new(RecordKind.Data, RecordCodec.Zstd, 262144, 1000, Hash(0xaa), Name(0x55), 3);

    public static PackEntry[] PackEntries() =>
    [
        new(new RecordHeader(RecordKind.Data, RecordCodec.Raw, 100, 128, Hash(0xcc), Name(0x55), 3), 0),
        new(new RecordHeader(RecordKind.Data, RecordCodec.Zstd, 4096, 500, Hash(0xaa), Name(0x56), 3), 204),
        new(new RecordHeader(RecordKind.Data, RecordCodec.Zstd, 4096, 300, Hash(0xaa), Name(0x55), 3), 780),
    ];

    public const long PackEntriesEnd = 780 + 76 + 300;

    /// <summary>4 KiB chunks, spans of 16 KiB.</summary>
    public static MapShape SmallShape { get; } = new(Chunker.Fixed, 12, 14);

    public static MapShape SmallContentShape { get; } = new(Chunker.ContentDefined, 12, 14);

    /// <summary>The tail leaf of a fixed map: two full chunks and one of 100 bytes.</summary>
    public static MapPlace TailPlace { get; } = new(SmallShape, 0, 8292);

    public static MapEntry[] TailEntries() =>
    [
        new(4096, Hash(0xa1), Hash(0xb1), Name(0xe2)), MapEntry.Zeros(4096), new(100, Hash(0xa3), Hash(0xb3), Name(0xe1)),
    ];

    public static MapPlace ContentPlace { get; } = new(SmallContentShape, 0, 16384);

    public static MapEntry[] ContentEntries() =>
    [
        new(5000, Hash(0xa1), Hash(0xb1), Name(0xe2)), MapEntry.Zeros(7000), new(4384, Hash(0xa3), Hash(0xb3), Name(0xe2)),
    ];

    /// <summary>A root over three leaves, the middle one zero.</summary>
    public static MapPlace InnerPlace { get; } = new(SmallShape, 1, 16384 + 16384 + 1);

    public static Id32[] InnerChildren() => [Hash(0xd1), default, Hash(0xd3)];

    public static ManifestHead ManifestHead() => new()
    {
        Erasable = true,
        Consistency = Consistency.Filesystem,
        Repository = Name(0x01),
        Vm = Name(0x02),
        Lineage = Name(0x03),
        Point = Name(0x04),
        Scope = Name(0x05),
        IdGeneration = 7,
        Generation = 8,
        Attempt = 9,
        Sequence = 10,
        CreatedMs = 1_700_000_000_123,
        PreviousManifest = Hash(0x0b),
        BaseManifest = Hash(0x0c),
        AgentKeyId = Name(0x0d),
        BodyEpochIndex = 1,
        Streams =
        [
            new ManifestStream(Name(0x21), StreamKind.Disk, new MapGeometry(MapShape.Default, 1L << 40), Hash(0x31)),
            new ManifestStream(Name(0x22), StreamKind.Nvram, new MapGeometry(MapShape.Of(Chunker.ContentDefined, 16), 540672), Hash(0x32)),
        ],
        Epochs = [Name(0xe1), Name(0xe2)],
    };

    public static byte[] ManifestBytes() => Manifest.Assemble(ManifestHead().ToBytes(), Filled(0x77, 40), Filled(0x88, 64));

    public static KeyObject KeyObject() => new()
    {
        Repository = Name(0x01), Vm = Name(0x02), Epoch = Name(0xe1), Recipient = Name(0x0d),
        Ephemeral = (byte[])[4, .. Filled(0x99, 64)], Sealed = Filled(0x66, 60),
    };

    public static ManifestBody ManifestBody() => new()
    {
        VmName = "web-01",
        HypervisorKind = "qemu",
        Machine = JsonDocument.Parse("""{"cpus":4,"memoryBytes":8589934592}""").RootElement.Clone(),
        Native = new NativeDocument("libvirt-xml", "<domain/>"u8.ToArray()),
        Streams =
        [
            new StreamDescription
            {
                Id = Name(0x21).ToString(), Name = "system", Device = "vda", Serial = "S1", Format = "qcow2", VirtualBytes = 1L << 40,
                ReadReason = "bitmap", BaseToken = "t1",
            },
        ],
        Statistics = new RunStatistics { BytesRead = 1, BytesUploaded = 2, ChunksTotal = 3, ChunksUploaded = 4, ChunksZero = 5, DurationMs = 6 },
        AgentName = "host-7",
        Quiesce = new QuiesceDetails("guest-agent", 210, null),
    };

    public static RepositoryHead RepositoryHead() => new()
    {
        Uuid = Name(0x01), Created = new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero), RestoreKey = [1, 2, 3],
        Scopes = [new RepositoryScope(Name(0x05).ToString(), "fleet", 7)],
    };
}

using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Format.Manifests;

/// <summary>What a stream of a recovery point holds.</summary>
public enum StreamKind : byte
{
    Disk = 1,
    /// <summary>The hypervisor's own machine document.</summary>
    NativeConfiguration = 2,
    Nvram = 3,
    Tpm = 4,
    /// <summary>The memory of a running machine, by address (FORMAT.md, "Running state").</summary>
    RamState = 5,
    /// <summary>Processors and devices of a running machine, and how its memory is laid out.</summary>
    DeviceState = 6,
}

/// <summary>How much the guest took part in the recovery point.</summary>
public enum Consistency : byte
{
    Crash = 1,
    Filesystem = 2,
    Application = 3,
}

/// <summary>One stream of a recovery point: its map's geometry and root.</summary>
/// <param name="Id">Stays the same from point to point of a VM.</param>
/// <param name="Kind">What the stream holds.</param>
/// <param name="Geometry">Length in bytes and shape of the map.</param>
/// <param name="Root">Id of the map's root node; zero when every byte is zero.</param>
public readonly record struct ManifestStream(Id16 Id, StreamKind Kind, MapGeometry Geometry, Id32 Root)
{
    /// <summary>Bytes of a stream in the manifest's head.</summary>
    public const int Size = 64;

    internal void Write(ref ByteWriter writer)
    {
        writer.Id16(Id);
        writer.Byte((byte)Kind);
        writer.Byte((byte)Geometry.Shape.Chunker);
        writer.Byte(Geometry.Shape.ChunkLog2);
        writer.Byte(Geometry.Shape.SpanLog2);
        writer.Byte((byte)Geometry.Height);
        writer.Zeros(3);
        writer.Int64(Geometry.StreamLength);
        writer.Id32(Root);
    }

    internal static ManifestStream Read(ref ByteReader reader)
    {
        var id = reader.Id16();
        var kind = (StreamKind)reader.Byte();
        var chunker = (Chunker)reader.Byte();
        var chunkLog2 = reader.Byte();
        var spanLog2 = reader.Byte();
        var height = reader.Byte();
        reader.Reserved(3);
        var length = reader.Int63("stream length");
        var stream = new ManifestStream(id, kind, new MapGeometry(new MapShape(chunker, chunkLog2, spanLog2), length), reader.Id32());
        return stream.Geometry.Height == height
            ? stream
            : throw FaultException.Malformed($"Stream {id} of the manifest has height {height}; its length calls for {stream.Geometry.Height}.");
    }

    internal string? FindViolation()
    {
        if (Id.IsEmpty)
        {
            return "a stream has no id";
        }
        if (Kind is < StreamKind.Disk or > StreamKind.DeviceState)
        {
            return $"stream {Id} is of unknown kind {(byte)Kind}";
        }
        if (Geometry.Shape.FindViolation() is { } violation)
        {
            return $"of stream {Id} {violation}";
        }
        return Geometry.StreamLength == 0 && !Root.IsZero ? $"stream {Id} is empty and has a root" : null;
    }
}

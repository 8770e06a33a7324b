using VirtBackup.Core;

namespace VirtBackup.Format.Manifests;

/// <summary>
/// The clear, signed part of a recovery point's manifest (FORMAT.md, "Manifest"): everything that a repository needs
/// without keys. Times are Unix milliseconds of the controller's clock.
/// </summary>
public sealed record ManifestHead
{
    /// <summary>Bytes in front of the streams.</summary>
    public const int FixedSize = 220;

    private const byte FormatVersion = 1;
    private const byte ErasableFlag = 1;

    private static ReadOnlySpan<byte> Magic => "VBMANIF\x1a"u8;

    /// <summary>The VM keys are also wrapped under a shred key, so that a locked point may still be shredded.</summary>
    public bool Erasable { get; init; }

    public required Consistency Consistency { get; init; }
    public required Id16 Repository { get; init; }
    public required Id16 Vm { get; init; }
    public required Id16 Lineage { get; init; }
    public required Id16 Point { get; init; }

    /// <summary>Within which the point's new chunks are shared.</summary>
    public required Id16 Scope { get; init; }

    /// <summary>Generation of the scope's id key.</summary>
    public required ushort IdGeneration { get; init; }

    /// <summary>Generation of the repository's owner that took the point; with <see cref="Attempt"/> the fencing token.</summary>
    public required long Generation { get; init; }

    public required long Attempt { get; init; }

    /// <summary>Number of the point in its lineage, ascending.</summary>
    public required long Sequence { get; init; }

    public required long CreatedMs { get; init; }

    /// <summary>Hash of the lineage's previous manifest; zero for the first.</summary>
    public Id32 PreviousManifest { get; init; }

    /// <summary>Hash of the manifest that unchanged parts were copied from; zero for a full read.</summary>
    public Id32 BaseManifest { get; init; }

    /// <summary>Names the signing key of the agent that made the point.</summary>
    public required Id16 AgentKeyId { get; init; }

    /// <summary>Which of <see cref="Epochs"/> names the VM key that seals the body.</summary>
    public required int BodyEpochIndex { get; init; }

    /// <summary>Streams by id, strictly ascending.</summary>
    public required IReadOnlyList<ManifestStream> Streams { get; init; }

    /// <summary>Every key epoch that the body or an entry of the streams' maps uses, strictly ascending.</summary>
    public required IReadOnlyList<Id16> Epochs { get; init; }

    /// <summary>The epoch whose VM key seals the body.</summary>
    public Id16 BodyEpoch => Epochs[BodyEpochIndex];

    /// <summary>Bytes of the written head.</summary>
    public int Length => FixedSize + (Streams.Count * ManifestStream.Size) + (Epochs.Count * Id16.Size);

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: a rule of the format is broken.</exception>
    public byte[] ToBytes()
    {
        if (FindViolation() is { } violation)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The recovery point {Point} cannot be described: {violation}.");
        }
        var bytes = new byte[Length];
        var writer = new ByteWriter(bytes);
        writer.Bytes(Magic);
        writer.Byte(FormatVersion);
        writer.Byte(Erasable ? ErasableFlag : (byte)0);
        writer.Byte((byte)Consistency);
        writer.Byte(0);
        writer.UInt32((uint)Length);
        writer.Id16(Repository);
        writer.Id16(Vm);
        writer.Id16(Lineage);
        writer.Id16(Point);
        writer.Id16(Scope);
        writer.UInt16(IdGeneration);
        writer.UInt16(0);
        writer.Int64(Generation);
        writer.Int64(Attempt);
        writer.Int64(Sequence);
        writer.Int64(CreatedMs);
        writer.Id32(PreviousManifest);
        writer.Id32(BaseManifest);
        writer.Id16(AgentKeyId);
        writer.UInt16((ushort)BodyEpochIndex);
        writer.UInt16((ushort)Streams.Count);
        writer.UInt32((uint)Epochs.Count);
        foreach (var stream in Streams)
        {
            stream.Write(ref writer);
        }
        foreach (var epoch in Epochs)
        {
            writer.Id16(epoch);
        }
        return bytes;
    }

    /// <summary>Reads a head from the start of <paramref name="source"/>; <see cref="Length"/> tells where it ends.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/> or <see cref="FaultReason.Unsupported"/>.</exception>
    public static ManifestHead Parse(ReadOnlySpan<byte> source)
    {
        var reader = new ByteReader(source, "manifest");
        reader.Expect(Magic, "magic");
        reader.Version(FormatVersion);
        var flags = reader.Byte();
        if ((flags & ~ErasableFlag) != 0)
        {
            throw FaultException.Malformed("The manifest carries unknown flags.");
        }
        var consistency = (Consistency)reader.Byte();
        reader.Reserved(1);
        var headLength = reader.Count(Limits.ManifestBytesMax, "head length");
        var (repository, vm, lineage, point, scope) = (reader.Id16(), reader.Id16(), reader.Id16(), reader.Id16(), reader.Id16());
        var idGeneration = reader.UInt16();
        reader.Reserved(2);
        var (generation, attempt) = (reader.Int63("generation"), reader.Int63("attempt"));
        var (sequence, created) = (reader.Int63("sequence"), reader.Int63("creation time"));
        var (previous, basis) = (reader.Id32(), reader.Id32());
        var agentKey = reader.Id16();
        var bodyEpoch = reader.UInt16();
        var streamCount = reader.UInt16();
        var epochCount = reader.Count(Limits.EpochsPerPointMax, "number of key epochs");
        if (headLength != FixedSize + (streamCount * ManifestStream.Size) + (epochCount * Id16.Size) || headLength > source.Length)
        {
            throw FaultException.Malformed("The manifest's head does not have the length that its counts call for.");
        }
        var streams = new ManifestStream[streamCount];
        for (var i = 0; i < streams.Length; i++)
        {
            streams[i] = ManifestStream.Read(ref reader);
        }
        var epochs = new Id16[epochCount];
        for (var i = 0; i < epochs.Length; i++)
        {
            epochs[i] = reader.Id16();
        }
        var head = new ManifestHead
        {
            Erasable = flags == ErasableFlag, Consistency = consistency, Repository = repository, Vm = vm, Lineage = lineage,
            Point = point, Scope = scope, IdGeneration = idGeneration, Generation = generation, Attempt = attempt,
            Sequence = sequence, CreatedMs = created, PreviousManifest = previous, BaseManifest = basis, AgentKeyId = agentKey,
            BodyEpochIndex = bodyEpoch, Streams = streams, Epochs = epochs,
        };
        return head.FindViolation() is { } violation ? throw FaultException.Malformed($"The manifest is not canonical: {violation}.") : head;
    }

    private string? FindViolation()
    {
        if (Consistency is < Consistency.Crash or > Consistency.Application)
        {
            return $"consistency {(byte)Consistency} is unknown";
        }
        if (Repository.IsEmpty || Vm.IsEmpty || Lineage.IsEmpty || Point.IsEmpty || AgentKeyId.IsEmpty)
        {
            return "a name is missing";
        }
        if (Generation < 0 || Attempt < 0 || Sequence < 0 || CreatedMs < 0)
        {
            return "a number is negative";
        }
        if (Streams.Count > Limits.StreamsPerPointMax || Epochs.Count is 0 or > Limits.EpochsPerPointMax)
        {
            return "its number of streams or key epochs is out of bounds";
        }
        if ((uint)BodyEpochIndex >= (uint)Epochs.Count)
        {
            return "its body names a key epoch that is not listed";
        }
        for (var i = 0; i < Streams.Count; i++)
        {
            if (Streams[i].FindViolation() is { } violation)
            {
                return violation;
            }
            if (i > 0 && Streams[i - 1].Id >= Streams[i].Id)
            {
                return "its streams do not ascend strictly";
            }
        }
        for (var i = 1; i < Epochs.Count; i++)
        {
            if (Epochs[i - 1] >= Epochs[i])
            {
                return "its key epochs do not ascend strictly";
            }
        }
        return null;
    }
}

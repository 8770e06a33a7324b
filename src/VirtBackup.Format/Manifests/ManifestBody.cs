using System.Text.Json;
using System.Text.Json.Serialization;
using VirtBackup.Core;

namespace VirtBackup.Format.Manifests;

/// <summary>
/// The sealed part of a manifest: what people and restores need and a store must not see. UTF-8 JSON, camelCase; unknown
/// members are ignored, so that newer agents may add some.
/// </summary>
public sealed record ManifestBody
{
    /// <summary>The version that this program writes and reads.</summary>
    public const int CurrentVersion = 1;

    [JsonRequired]
    public int Version { get; init; } = CurrentVersion;

    public required string VmName { get; init; }

    /// <summary>"qemu", "vsphere", "hyperv", "files".</summary>
    public required string HypervisorKind { get; init; }

    /// <summary>The machine in neutral terms: CPU, memory, firmware, disks, NICs, TPM.</summary>
    public JsonElement? Machine { get; init; }

    /// <summary>The hypervisor's own document, verbatim.</summary>
    public NativeDocument? Native { get; init; }

    public required IReadOnlyList<StreamDescription> Streams { get; init; }

    public RunStatistics? Statistics { get; init; }

    /// <summary>What the run audited of change tracking; null: nothing was to be audited.</summary>
    public AuditStatistics? Audit { get; init; }

    /// <summary>The name of the agent that made the point.</summary>
    public required string AgentName { get; init; }

    public QuiesceDetails? Quiesce { get; init; }

    /// <summary>How the running state was captured; null: it was not.</summary>
    public StateDetails? State { get; init; }

    public byte[] ToBytes() => JsonSerializer.SerializeToUtf8Bytes(this, ManifestBodyJson.Default.ManifestBody);

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>, or <see cref="FaultReason.Unsupported"/> for another version.</exception>
    public static ManifestBody Parse(ReadOnlySpan<byte> json)
    {
        ManifestBody? body;
        try
        {
            body = JsonSerializer.Deserialize(json, ManifestBodyJson.Default.ManifestBody);
        }
        catch (JsonException e)
        {
            throw new FaultException(FaultReason.Malformed, "The body of the manifest is not the JSON that was expected.", e);
        }
        if (body is null || body.Streams.Any(stream => stream is null || !Id16.TryParse(stream.Id, out _)))
        {
            throw FaultException.Malformed("The body of the manifest is empty or describes a stream without an id.");
        }
        return body.Version == CurrentVersion
            ? body
            : throw new FaultException(FaultReason.Unsupported, $"The manifest's body has version {body.Version}; this program reads version {CurrentVersion}. Use a newer release.");
    }
}

/// <summary>A hypervisor's machine document.</summary>
/// <param name="Kind">"libvirt-xml", "vmx", "hyperv-xml", "qemu-qmp".</param>
/// <param name="Content">The bytes, verbatim (base64 in JSON).</param>
public sealed record NativeDocument(string Kind, byte[] Content);

/// <summary>What people and a restore need to know about one stream.</summary>
public sealed record StreamDescription
{
    /// <summary>The stream's id in the head, 32 hexadecimal digits.</summary>
    public required string Id { get; init; }

    public required string Name { get; init; }

    /// <summary>The device as the hypervisor names it.</summary>
    public string? Device { get; init; }

    public string? Serial { get; init; }

    /// <summary>Format of the source image: "raw", "qcow2".</summary>
    public string? Format { get; init; }

    public long VirtualBytes { get; init; }

    /// <summary>Why the stream was read in full or by its changes: "bitmap", "no-base", "bitmap-inconsistent".</summary>
    public string? ReadReason { get; init; }

    /// <summary>Bytes that the run read of it.</summary>
    public long ReadBytes { get; init; }

    /// <summary>What the hypervisor needs to tell changes since this point; opaque.</summary>
    public string? BaseToken { get; init; }
}

/// <summary>What a run did. Bytes and milliseconds.</summary>
public sealed record RunStatistics
{
    public long BytesRead { get; init; }
    public long BytesUploaded { get; init; }
    public long ChunksTotal { get; init; }
    public long ChunksUploaded { get; init; }
    public long ChunksZero { get; init; }
    public long DurationMs { get; init; }
}

/// <summary>How the guest was quiesced.</summary>
/// <param name="Method">"guest-agent", "vss", "none".</param>
/// <param name="FrozenMs">How long the guest's file systems stood still: from its word that they do to its word that they do not; 0: they did not.</param>
/// <param name="Detail">What went wrong, if anything.</param>
public sealed record QuiesceDetails(string Method, long FrozenMs, string? Detail = null);

/// <summary>How the running state was captured.</summary>
/// <param name="PausedMs">For how long the guest stood still for it.</param>
/// <param name="StoredBytes">What its run sent of it.</param>
public sealed record StateDetails(long PausedMs, long StoredBytes);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    AllowDuplicateProperties = false, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(ManifestBody))]
internal sealed partial class ManifestBodyJson : JsonSerializerContext;

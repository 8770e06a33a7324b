using System.Text.Json;
using System.Text.Json.Serialization;
using VirtBackup.Core;

namespace VirtBackup.Format;

/// <summary>A set of machines within which chunks are shared.</summary>
/// <param name="Id">32 hexadecimal digits.</param>
/// <param name="Name">For people: "fleet".</param>
/// <param name="Generation">Current generation of the scope's id key.</param>
public sealed record RepositoryScope(string Id, string Name, ushort Generation);

/// <summary>The object <c>FORMAT</c>: what a repository is, in one line of text and one JSON document.</summary>
public sealed record RepositoryHead
{
    /// <summary>Largest object, bytes.</summary>
    public const int BytesMax = 64 << 10;

    /// <summary>The algorithms of format 1, in the order chunk id, records, keys, signatures, nodes, compression.</summary>
    public const string AlgorithmsOfVersion1 = "hmac-sha256,aes-256-gcm,ecies-p256,ecdsa-p256,sha256,zstd";

    private static ReadOnlySpan<byte> FirstLine => "virtbackup repository 1\n"u8;

    private static ReadOnlySpan<byte> FirstWords => "virtbackup repository "u8;

    /// <summary>Features that a reader must know; none are defined yet.</summary>
    private static readonly string[] KnownFeatures = [];

    /// <summary>The repository's name.</summary>
    [JsonConverter(typeof(Id16JsonConverter))]
    public required Id16 Uuid { get; init; }

    public required DateTimeOffset Created { get; init; }

    [JsonRequired]
    public string Algorithms { get; init; } = AlgorithmsOfVersion1;

    /// <summary>Features without which the repository cannot be read.</summary>
    [JsonRequired]
    public IReadOnlyList<string> Features { get; init; } = [];

    /// <summary>The restore key's public half, SubjectPublicKeyInfo (base64 in JSON).</summary>
    public required byte[] RestoreKey { get; init; }

    [JsonRequired]
    public IReadOnlyList<RepositoryScope> Scopes { get; init; } = [];

    public byte[] ToBytes() =>
        [.. FirstLine, .. JsonSerializer.SerializeToUtf8Bytes(this, RepositoryHeadJson.Default.RepositoryHead), (byte)'\n'];

    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Malformed"/>: not a repository; <see cref="FaultReason.Unsupported"/>: a newer version, unknown
    /// algorithms or an unknown feature.
    /// </exception>
    public static RepositoryHead Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length > BytesMax || !bytes.StartsWith(FirstWords))
        {
            throw FaultException.Malformed("The object FORMAT is not the head of a VirtBackup repository. Check the path.");
        }
        if (!bytes.StartsWith(FirstLine))
        {
            throw new FaultException(FaultReason.Unsupported, "The repository has another format version than 1. Use a newer release.");
        }
        RepositoryHead? head;
        try
        {
            head = JsonSerializer.Deserialize(bytes[FirstLine.Length..], RepositoryHeadJson.Default.RepositoryHead);
        }
        catch (JsonException e)
        {
            throw new FaultException(FaultReason.Malformed, "The repository's object FORMAT is damaged: its second part is not the JSON that was expected.", e);
        }
        if (head is null || head.Uuid.IsEmpty || head.Features.Contains(null!) || head.Scopes.Any(scope => scope is null || !Id16.TryParse(scope.Id, out _)))
        {
            throw FaultException.Malformed("The repository's object FORMAT lacks a name.");
        }
        if (head.Features.FirstOrDefault(feature => !KnownFeatures.Contains(feature)) is { } unknown)
        {
            throw new FaultException(FaultReason.Unsupported, $"The repository needs the feature '{unknown}', which this program does not know. Use a newer release.");
        }
        return head.Algorithms == AlgorithmsOfVersion1
            ? head
            : throw new FaultException(FaultReason.Unsupported, $"The repository uses the algorithms '{head.Algorithms}', which this program does not know. Use a newer release.");
    }
}

/// <summary>An id as 32 hexadecimal digits.</summary>
internal sealed class Id16JsonConverter : JsonConverter<Id16>
{
    public override Id16 Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.TokenType == JsonTokenType.String && Id16.TryParse(reader.GetString(), out var id)
            ? id : throw new JsonException("An identifier of 32 hexadecimal digits was expected.");

    public override void Write(Utf8JsonWriter writer, Id16 value, JsonSerializerOptions options) => writer.WriteStringValue(value.ToString());
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = true, NewLine = "\n",
    AllowDuplicateProperties = false, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(RepositoryHead))]
internal sealed partial class RepositoryHeadJson : JsonSerializerContext;

using System.Net;
using System.Text.Json;
using System.Text.Json.Serialization;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>What <c>controller.json</c> holds.</summary>
public sealed record ControllerSettings
{
    /// <summary>Where a controller listens unless told otherwise.</summary>
    public const string DefaultListen = "0.0.0.0:7443";

    /// <summary>Addresses with ports: <c>0.0.0.0:7443</c>, <c>[::1]:7443</c>. One to sixteen.</summary>
    [JsonPropertyName("listen")]
    public required IReadOnlyList<string> Listen { get; init; }

    /// <summary>DNS names and addresses that the server certificate carries: what agents and operators dial.</summary>
    [JsonPropertyName("names")]
    public required IReadOnlyList<string> Names { get; init; }

    /// <summary>Absolute path of the repository's folder, or its address at a provider (<see cref="StoreLocation"/>).</summary>
    [JsonPropertyName("repository_path")]
    public required string RepositoryPath { get; init; }

    /// <summary>The repository's uuid, 32 hexadecimal digits: a wrong or swapped disk is noticed.</summary>
    [JsonPropertyName("repository_id")]
    public required string RepositoryId { get; init; }

    /// <summary>What join tokens tell agents to dial (<c>host:port</c>); empty: the first name and the first port.</summary>
    [JsonPropertyName("advertise")]
    public string Advertise { get; init; } = "";

    /// <summary>How the repository is read again and again, so that damage is found.</summary>
    [JsonPropertyName("scrub")]
    public ScrubSettings Scrub { get; init; } = new();

    /// <summary><see cref="Listen"/>, parsed.</summary>
    [JsonIgnore]
    public IReadOnlyList<IPEndPoint> Endpoints => [.. Listen.Select(ParseEndpoint)];

    /// <summary><see cref="Names"/> that are host names.</summary>
    [JsonIgnore]
    public IReadOnlyList<string> DnsNames => [.. Names.Where(static name => !IPAddress.TryParse(name, out _))];

    /// <summary><see cref="Names"/> that are addresses.</summary>
    [JsonIgnore]
    public IReadOnlyList<IPAddress> Addresses => [.. Names.Where(static name => IPAddress.TryParse(name, out _)).Select(IPAddress.Parse)];

    /// <summary>What agents dial: host and port.</summary>
    [JsonIgnore]
    public string DialAddress => Advertise.Length > 0 ? Advertise : $"{Bracketed(Names[0])}:{Endpoints[0].Port}";

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>.</exception>
    internal static ControllerSettings Parse(ReadOnlySpan<byte> json, string path)
    {
        try
        {
            var settings = JsonSerializer.Deserialize<ControllerSettings>(json, Options)
                ?? throw FaultException.Malformed($"The settings '{path}' are empty.");
            settings.Validate(path);
            return settings;
        }
        catch (JsonException broken)
        {
            throw new FaultException(FaultReason.Malformed, $"The settings '{path}' cannot be read: {broken.Message}", broken);
        }
    }

    internal byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, Options);

    internal void Validate(string path)
    {
        if (Listen is not { Count: >= 1 and <= 16 } || Listen.Any(string.IsNullOrWhiteSpace))
        {
            throw FaultException.Malformed($"The settings '{path}' must name 1 to 16 addresses under 'listen'.");
        }
        _ = Endpoints;
        if (Names is not { Count: >= 1 and <= CertificateAuthority.ServerNamesMax } || Names.Any(string.IsNullOrWhiteSpace))
        {
            throw FaultException.Malformed($"The settings '{path}' must name 1 to {CertificateAuthority.ServerNamesMax} host names or addresses under 'names'.");
        }
        if (string.IsNullOrEmpty(RepositoryPath) || (StoreLocation.Parse(RepositoryPath).IsFolder && !Path.IsPathFullyQualified(RepositoryPath)))
        {
            throw FaultException.Malformed($"The settings '{path}' must give an absolute path or the address of a store as 'repository_path'.");
        }
        if (!Id16.TryParse(RepositoryId, out _))
        {
            throw FaultException.Malformed($"The settings '{path}' must give 32 hexadecimal digits as 'repository_id'.");
        }
        if (Scrub is null || Scrub.Days is < 1 or > ScrubSettings.DaysMax || Scrub.ReadBytesPerSecondMax < 0)
        {
            throw FaultException.Malformed($"The settings '{path}' must give 1 to {ScrubSettings.DaysMax} 'days' under 'scrub', and a rate that is not negative.");
        }
    }

    private static readonly JsonSerializerOptions Options = new()
    {
        WriteIndented = true,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
    };

    private static IPEndPoint ParseEndpoint(string text) =>
        text.Contains(':', StringComparison.Ordinal) && IPEndPoint.TryParse(text, out var endpoint)
            ? endpoint
            : throw new FaultException(FaultReason.InvalidArgument, $"'{text}' is not an address to listen at: write it like 0.0.0.0:7443 or [::]:7443.");

    private static string Bracketed(string name) => name.Contains(':', StringComparison.Ordinal) ? $"[{name}]" : name;
}

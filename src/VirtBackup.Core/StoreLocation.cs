using System.Globalization;

namespace VirtBackup.Core;

/// <summary>What kind of store a repository is in.</summary>
public enum StoreKind
{
    /// <summary>A folder of this host.</summary>
    Folder,

    /// <summary>A bucket of Amazon S3, or of what speaks its protocol.</summary>
    S3,

    /// <summary>A container of Azure Blob Storage.</summary>
    Azure,
}

/// <summary>How a provider enforces retention locks.</summary>
public enum ProviderLock
{
    /// <summary>It does not: locks bind the controller alone.</summary>
    None,

    /// <summary>Who has a special right at the provider may end them early.</summary>
    Governance,

    /// <summary>Nobody may, not even the account's owner.</summary>
    Compliance,
}

/// <summary>
/// Where a repository's objects are: a folder's path, <c>s3://BUCKET[/PREFIX][?endpoint=…&amp;region=…]</c> or
/// <c>azure://ACCOUNT/CONTAINER[/PREFIX][?endpoint=…]</c>. It never holds a secret.
/// </summary>
public sealed record StoreLocation
{
    private const int TimeoutSecondsMax = 3600;
    private const int CacheGibMax = 1024;
    private const int CacheGibDefault = 2;

    private static readonly string[] S3Settings = ["endpoint", "region", "path-style", "ca", "profile", "timeout", "cache", "lock"];
    private static readonly string[] AzureSettings = ["endpoint", "ca", "timeout", "cache", "lock"];

    private StoreLocation(string text, StoreKind kind) => (Text, Kind) = (text, kind);

    /// <summary>As it was given; of a folder, the absolute path.</summary>
    public string Text { get; }

    public StoreKind Kind { get; }

    /// <summary>The storage account; empty but for Azure.</summary>
    public string Account { get; private init; } = "";

    /// <summary>Bucket or container; empty for a folder.</summary>
    public string Bucket { get; private init; } = "";

    /// <summary>Stands before all names, without '/' at either end; may be empty.</summary>
    public string Prefix { get; private init; } = "";

    /// <summary>What follows the '?'.</summary>
    public IReadOnlyDictionary<string, string> Settings { get; private init; } = new Dictionary<string, string>();

    public bool IsFolder => Kind == StoreKind.Folder;

    /// <summary>How long a provider may take for an answer; null: as long as usual.</summary>
    public TimeSpan? Timeout => Settings.TryGetValue("timeout", out var seconds) ? TimeSpan.FromSeconds(int.Parse(seconds, CultureInfo.InvariantCulture)) : null;

    /// <summary>Bytes of local copies of what is read again and again; 0: none are kept.</summary>
    public long CacheBytesMax => (Settings.TryGetValue("cache", out var gib) ? long.Parse(gib, CultureInfo.InvariantCulture) : CacheGibDefault) << 30;

    /// <summary>How the provider enforces retention locks.</summary>
    public ProviderLock Lock => Settings.GetValueOrDefault("lock") switch
    {
        "governance" => ProviderLock.Governance,
        "compliance" => ProviderLock.Compliance,
        _ => ProviderLock.None,
    };

    /// <param name="text">A path or an address.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: it is neither.</exception>
    public static StoreLocation Parse(string text)
    {
        ArgumentException.ThrowIfNullOrEmpty(text);
        var end = text.IndexOf("://", StringComparison.Ordinal);
        if (end < 0)
        {
            return new StoreLocation(Path.GetFullPath(text), StoreKind.Folder);
        }
        var (path, query) = text[(end + 3)..].Split('?', 2) is [var before, var after] ? (before, after) : (text[(end + 3)..], "");
        var segments = path.Split('/');
        return text[..end] switch
        {
            "s3" when segments[0].Length > 0 => new StoreLocation(text, StoreKind.S3)
            {
                Bucket = segments[0], Prefix = PrefixOf(text, segments[1..]), Settings = SettingsOf(text, query, S3Settings),
            },
            "azure" when segments is [{ Length: > 0 }, { Length: > 0 }, ..] => new StoreLocation(text, StoreKind.Azure)
            {
                Account = segments[0], Bucket = segments[1], Prefix = PrefixOf(text, segments[2..]), Settings = SettingsOf(text, query, AzureSettings),
            },
            _ => throw Invalid(text, "write s3://BUCKET/PREFIX, azure://ACCOUNT/CONTAINER/PREFIX or a folder's path"),
        };
    }

    private static string PrefixOf(string text, string[] segments)
    {
        var prefix = string.Join('/', segments).TrimEnd('/');
        return prefix.Length == 0 || ObjectKey.IsValid(prefix)
            ? prefix
            : throw Invalid(text, "a prefix is made of letters, digits, '.', '_' and '-', with single '/' between its parts");
    }

    private static Dictionary<string, string> SettingsOf(string text, string query, string[] known)
    {
        var settings = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var pair in query.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var (name, value) = pair.Split('=', 2) is [var left, { Length: > 0 } right] ? (left, Uri.UnescapeDataString(right)) : (pair, "");
            if (!known.Contains(name) || value.Length == 0 || !settings.TryAdd(name, value))
            {
                throw Invalid(text, $"'{pair}' is not one of {string.Join(", ", known.Select(static setting => setting + "=…"))}, each once");
            }
        }
        if (settings.TryGetValue("endpoint", out var endpoint) && !(Uri.TryCreate(endpoint, UriKind.Absolute, out var uri) && uri.Scheme is "http" or "https"))
        {
            throw Invalid(text, "an endpoint begins with http:// or https://");
        }
        if (settings.TryGetValue("path-style", out var style) && style is not ("true" or "false"))
        {
            throw Invalid(text, "path-style is true or false");
        }
        if (settings.TryGetValue("timeout", out var timeout) && !(int.TryParse(timeout, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds) && seconds is >= 1 and <= TimeoutSecondsMax))
        {
            throw Invalid(text, $"timeout is a number of seconds, 1 to {TimeoutSecondsMax}");
        }
        if (settings.TryGetValue("cache", out var cache) && !(int.TryParse(cache, NumberStyles.None, CultureInfo.InvariantCulture, out var gib) && gib <= CacheGibMax))
        {
            throw Invalid(text, $"cache is a number of GiB, 0 to {CacheGibMax}");
        }
        if (settings.TryGetValue("lock", out var held) && held is not ("governance" or "compliance"))
        {
            throw Invalid(text, "lock is governance or compliance");
        }
        return settings;
    }

    private static FaultException Invalid(string text, string advice) => new(FaultReason.InvalidArgument, $"'{text}' is no place for a repository: {advice}.");
}

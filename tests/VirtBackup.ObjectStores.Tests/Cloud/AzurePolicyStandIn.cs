using System.Collections.Concurrent;
using System.Globalization;
using VirtBackup.Testing.Lab;

namespace VirtBackup.ObjectStores.Tests.Cloud;

/// <summary>
/// A stand-in for Azure's version-level immutability policies, which Azurite does not have: it answers in a proxy in front of
/// Azurite, strictly by Azure's documentation. What passes here has not been tried against Azure. Safe for concurrent use.
/// </summary>
internal sealed class AzurePolicyStandIn
{
    private const string UntilHeader = "x-ms-immutability-policy-until-date";
    private const string ModeHeader = "x-ms-immutability-policy-mode";

    // Policies of versions came with this version of the protocol.
    private const string VersionMin = "2020-06-12";

    private readonly ConcurrentDictionary<string, (DateTimeOffset Until, bool IsLocked)> _policies = new();

    /// <summary>Whether the container was made with it.</summary>
    public bool IsEnabled { get; set; } = true;

    /// <summary>How often a policy was set.</summary>
    public int Set { get; private set; }

    public void ServeIn(FaultProxy proxy) => (proxy.Answer, proxy.Rewrite) = (Answer, Rewrite);

    /// <summary>Its own answer; null: the request goes on to Azurite.</summary>
    private string? Answer(string head)
    {
        var (method, path, query) = Parse(head);
        if (query.Contains("comp=immutabilityPolicies", StringComparison.Ordinal))
        {
            return method == "PUT" ? SetPolicy(head, path) : Refuse("405 Method Not Allowed", "UnsupportedHttpVerb");
        }
        var isChange = method == "DELETE" || (method == "PUT" && !query.Contains("comp=block&", StringComparison.Ordinal) && !query.EndsWith("comp=block", StringComparison.Ordinal));
        return isChange && _policies.TryGetValue(path, out var policy) && policy.Until > DateTimeOffset.UtcNow ? Refuse("409 Conflict", "BlobImmutableDueToPolicy") : null;
    }

    private string SetPolicy(string head, string path)
    {
        if (HeaderOf(head, "Authorization") is not { Length: > 0 })
        {
            return Refuse("403 Forbidden", "AuthorizationFailure");
        }
        if (!IsEnabled || string.CompareOrdinal(HeaderOf(head, "x-ms-version"), VersionMin) < 0)
        {
            return Refuse("400 Bad Request", "InvalidHeaderValue");
        }
        var mode = HeaderOf(head, ModeHeader)?.ToLowerInvariant() ?? "unlocked";
        if (!DateTimeOffset.TryParseExact(HeaderOf(head, UntilHeader), "R", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var until)
            || until <= DateTimeOffset.UtcNow || mode is not ("locked" or "unlocked"))
        {
            return Refuse("400 Bad Request", "InvalidHeaderValue");
        }
        if (_policies.TryGetValue(path, out var present) && present.IsLocked && (mode != "locked" || until < present.Until))
        {
            return Refuse("409 Conflict", "BlobImmutableDueToPolicy");
        }
        _policies[path] = (until, mode == "locked");
        Set++;
        return $"HTTP/1.1 200 OK\r\n{UntilHeader}: {until:R}\r\n{ModeHeader}: {mode}\r\nx-ms-version: {VersionMin}\r\nContent-Length: 0\r\n\r\n";
    }

    /// <summary>Azurite's answer, with what Azure would have added.</summary>
    private string Rewrite(string requestHead, string answerHead)
    {
        var (method, path, query) = Parse(requestHead);
        if (method is "GET" or "HEAD" && query.Contains("restype=container", StringComparison.Ordinal) && !query.Contains("comp=", StringComparison.Ordinal))
        {
            return With(answerHead, $"x-ms-immutable-storage-with-versioning-enabled: {(IsEnabled ? "true" : "false")}");
        }
        return method == "HEAD" && answerHead.Contains(" 200 ", StringComparison.Ordinal) && _policies.TryGetValue(path, out var policy)
            ? With(answerHead, $"{UntilHeader}: {policy.Until:R}\r\n{ModeHeader}: {(policy.IsLocked ? "locked" : "unlocked")}")
            : answerHead;
    }

    private static string With(string head, string lines) => head.Insert(head.IndexOf("\r\n", StringComparison.Ordinal), "\r\n" + lines);

    private static string Refuse(string status, string code) =>
        $"HTTP/1.1 {status}\r\nx-ms-error-code: {code}\r\nx-ms-version: {VersionMin}\r\nContent-Length: 0\r\n\r\n";

    private static (string Method, string Path, string Query) Parse(string head)
    {
        var words = head.Split(' ', 3);
        var parts = words[1].Split('?', 2);
        return (words[0], parts[0], parts.Length > 1 ? parts[1] : "");
    }

    private static string? HeaderOf(string head, string name) => head.Split("\r\n")
        .FirstOrDefault(line => line.StartsWith(name + ":", StringComparison.OrdinalIgnoreCase))?[(name.Length + 1)..].Trim();
}

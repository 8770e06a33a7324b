using System.Buffers;
using System.Globalization;
using VirtBackup.Core;

namespace VirtBackup.Format;

/// <summary>
/// Names of a repository's objects. Ids are lower-case hexadecimal, numbers 20 decimal digits, so that names sort as their
/// values do. Parsing accepts only what is written here.
/// </summary>
public static class ObjectKeys
{
    /// <summary>The repository head.</summary>
    public const string Format = "FORMAT";

    public const string PacksPrefix = "packs/";
    public const string RecoveryPointsPrefix = "recovery-points/";
    public const string KeysPrefix = "keys/";
    public const string KeyringPrefix = "keyring/";
    public const string AgentsPrefix = "agents/";
    public const string OwnerPrefix = "owner/";
    public const string LocksPrefix = "locks/";
    public const string TrashPrefix = "trash/";
    public const string PendingPrefix = "pending/";

    private const string PackSuffix = ".vbp";
    private const string ManifestSuffix = ".vbm";
    private const string RestorePrefix = "keyring/restore-";
    private const int NumberDigits = 20;
    private static readonly SearchValues<char> HexDigits = SearchValues.Create("0123456789abcdef");

    /// <summary><c>packs/&lt;first 2 digits&gt;/&lt;SHA-256 of all bytes&gt;.vbp</c></summary>
    public static string Pack(Id32 hash)
    {
        var text = hash.ToString();
        return $"{PacksPrefix}{text[..2]}/{text}{PackSuffix}";
    }

    public static bool TryParsePack(string key, out Id32 hash)
    {
        ArgumentNullException.ThrowIfNull(key);
        hash = default;
        var text = Between(key, PacksPrefix, PackSuffix);
        if (text is not { Length: 3 + (2 * Id32.Size) } || !TryId32(text[3..], out var read) || Pack(read) != key)
        {
            return false;
        }
        hash = read;
        return true;
    }

    /// <summary><c>recovery-points/&lt;vm&gt;/&lt;point&gt;.vbm</c></summary>
    public static string Manifest(Id16 vm, Id16 point) => $"{RecoveryPointsPrefix}{vm}/{point}{ManifestSuffix}";

    /// <summary>All manifests of a VM.</summary>
    public static string ManifestsOf(Id16 vm) => $"{RecoveryPointsPrefix}{vm}/";

    public static bool TryParseManifest(string key, out Id16 vm, out Id16 point)
    {
        ArgumentNullException.ThrowIfNull(key);
        (vm, point) = (default, default);
        var parts = Between(key, RecoveryPointsPrefix, ManifestSuffix)?.Split('/');
        return parts is [var first, var second] && TryId16(first, out vm) && TryId16(second, out point);
    }

    /// <summary><c>keys/&lt;vm&gt;/&lt;epoch&gt;/&lt;recipient key id&gt;</c></summary>
    public static string VmKey(Id16 vm, Id16 epoch, Id16 recipient) => $"{KeysPrefix}{vm}/{epoch}/{recipient}";

    /// <summary>All key objects of a VM.</summary>
    public static string VmKeysOf(Id16 vm) => $"{KeysPrefix}{vm}/";

    /// <summary>The key objects of one epoch: one for each recipient.</summary>
    public static string VmKeysOf(Id16 vm, Id16 epoch) => $"{KeysPrefix}{vm}/{epoch}/";

    public static bool TryParseVmKey(string key, out Id16 vm, out Id16 epoch, out Id16 recipient)
    {
        ArgumentNullException.ThrowIfNull(key);
        (vm, epoch, recipient) = (default, default, default);
        var parts = Between(key, KeysPrefix, "")?.Split('/');
        return parts is [var first, var second, var third] && TryId16(first, out vm) && TryId16(second, out epoch) && TryId16(third, out recipient);
    }

    /// <summary>The wrapped private restore key.</summary>
    public static string RestoreKey(Id16 keyId) => $"{RestorePrefix}{keyId}";

    public static bool TryParseRestoreKey(string key, out Id16 keyId) => TryId16(Between(key, RestorePrefix, ""), out keyId);

    /// <summary>An agent's public signing key, SubjectPublicKeyInfo.</summary>
    public static string Agent(Id16 keyId) => $"{AgentsPrefix}{keyId}";

    public static bool TryParseAgent(string key, out Id16 keyId) => TryId16(Between(key, AgentsPrefix, ""), out keyId);

    /// <summary>The claim of ownership generation <paramref name="generation"/>.</summary>
    public static string Owner(long generation) => OwnerPrefix + Number(generation);

    public static bool TryParseOwner(string key, out long generation) => TryNumber(Between(key, OwnerPrefix, ""), out generation);

    /// <summary>A retention lock of a point until a time; the latest counts.</summary>
    public static string Lock(Id16 point, long untilMs) => $"{LocksPrefix}{point}/{Number(untilMs)}";

    public static bool TryParseLock(string key, out Id16 point, out long untilMs)
    {
        ArgumentNullException.ThrowIfNull(key);
        (point, untilMs) = (default, default);
        var parts = Between(key, LocksPrefix, "")?.Split('/');
        return parts is [var first, var second] && TryId16(first, out point) && TryNumber(second, out untilMs);
    }

    private static string Number(long value)
    {
        Check.That(value >= 0);
        return value.ToString("D20", CultureInfo.InvariantCulture);
    }

    private static string? Between(string key, string prefix, string suffix)
    {
        ArgumentNullException.ThrowIfNull(key);
        return key.Length > prefix.Length + suffix.Length && key.StartsWith(prefix, StringComparison.Ordinal) && key.EndsWith(suffix, StringComparison.Ordinal)
            ? key[prefix.Length..^suffix.Length] : null;
    }

    private static bool TryNumber(string? text, out long value)
    {
        value = 0;
        return text is { Length: NumberDigits } && long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);
    }

    private static bool TryId16(string? text, out Id16 id)
    {
        id = default;
        return IsHex(text, 2 * Id16.Size) && Id16.TryParse(text, out id);
    }

    private static bool TryId32(string text, out Id32 id)
    {
        id = default;
        if (!IsHex(text, 2 * Id32.Size))
        {
            return false;
        }
        id = Id32.Parse(text);
        return true;
    }

    private static bool IsHex(string? text, int length) => text?.Length == length && !text.AsSpan().ContainsAnyExcept(HexDigits);
}

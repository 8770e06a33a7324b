using System.Buffers.Binary;
using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>What a join token may carry besides its id, secret, authority and expiry.</summary>
public sealed record JoinTokenDetails
{
    /// <summary>Where to find the controller: absolute https URIs, at most <see cref="JoinToken.EndpointsMax"/>.</summary>
    public IReadOnlyList<string> Endpoints { get; init; } = [];

    /// <summary>The role that the newcomer will get; the controller's record decides, this is to tell people.</summary>
    public PeerRole? Role { get; init; }

    /// <summary>The name that the newcomer will get; null: it may propose one.</summary>
    public string? Name { get; init; }

    /// <summary>SHA-256 of the operator's signed roster, in installations that seal keys from their controller.</summary>
    public Id32? RosterHash { get; init; }
}

/// <summary>
/// A join token, as an operator hands it to a new host: <c>vbjoin1.</c> and base64url (RFC 4648 section 5, no padding) of
/// <c>id[16] secret[32] authority[32] expiry:u64 flags:u8 roster[32]? role:u8 name:u8+ endpoints:u8 (endpoint:u8+)* check[8]</c>,
/// big-endian; expiry in Unix seconds; <c>check</c> is the start of SHA-256 over the prefix and everything before it.
/// Only its holder and the host ever see the secret: the controller keeps <see cref="JoinTokenRecord"/>.
/// </summary>
public sealed class JoinToken : IDisposable
{
    public const string Prefix = "vbjoin1.";

    /// <summary>Length of the secret, bytes.</summary>
    public const int SecretBytes = 32;

    public const int EndpointsMax = 8;

    /// <summary>Longest endpoint, characters.</summary>
    public const int EndpointLengthMax = 255;

    /// <summary>Longest token, characters.</summary>
    public const int TextLengthMax = 4096;

    private const int CheckBytes = 8;
    private const byte HasRoster = 1;
    private const int FixedBytes = Id16.Size + SecretBytes + Id32.Size + sizeof(ulong) + 4;
    private const int PayloadBytesMax = FixedBytes + Id32.Size + PeerNames.NameLengthMax + (EndpointsMax * (EndpointLengthMax + 1)) + CheckBytes;

    private readonly byte[] _secret;

    private JoinToken(Id16 id, byte[] secret, Id32 authorityHash, DateTimeOffset expires, JoinTokenDetails details)
    {
        Id = id;
        _secret = secret;
        AuthorityHash = authorityHash;
        Expires = expires;
        Details = details;
    }

    public Id16 Id { get; }

    /// <summary>SHA-256 of the authority's certificate: what the joining host pins.</summary>
    public Id32 AuthorityHash { get; }

    /// <summary>Whole seconds.</summary>
    public DateTimeOffset Expires { get; }

    public JoinTokenDetails Details { get; }

    /// <summary>The secret; zero once disposed.</summary>
    public ReadOnlySpan<byte> Secret => _secret;

    /// <summary>Makes a token with a random id and secret.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: an endpoint or the name is unusable.</exception>
    public static JoinToken Create(IEntropy entropy, Id32 authorityHash, DateTimeOffset expires, JoinTokenDetails? details = null)
    {
        ArgumentNullException.ThrowIfNull(entropy);
        details ??= new JoinTokenDetails();
        if (FindDefect(details) is { } defect)
        {
            throw new FaultException(FaultReason.InvalidArgument, defect);
        }
        var secret = new byte[SecretBytes];
        entropy.Fill(secret);
        return new JoinToken(Id16.Create(entropy), secret, authorityHash, DateTimeOffset.FromUnixTimeSeconds(expires.ToUnixTimeSeconds()), details);
    }

    /// <summary>Reads a token; blanks around it do not matter.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>; <see cref="FaultReason.Unsupported"/> for another version.</exception>
    public static JoinToken Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (text.Length > TextLengthMax)
        {
            throw Incomplete();
        }
        var token = text.AsSpan().Trim();
        if (!token.StartsWith(Prefix, StringComparison.Ordinal))
        {
            throw token.StartsWith("vbjoin", StringComparison.Ordinal) && token.Contains('.')
                ? new FaultException(FaultReason.Unsupported, "This join token is of another version: make one with a controller of this version.")
                : Incomplete();
        }
        token = token[Prefix.Length..];
        var payload = new byte[Base64Url.GetMaxDecodedLength(token.Length)];
        try
        {
            if (!Base64Url.TryDecodeFromChars(token, payload, out var length))
            {
                throw Incomplete();
            }
            return ParsePayload(payload.AsSpan(0, length), token);
        }
        catch (FormatException)
        {
            throw Incomplete();
        }
        finally
        {
            CryptographicOperations.ZeroMemory(payload);
        }
    }

    /// <summary>The token's text. It is a secret: show it once, to the operator who asked for it.</summary>
    public string ToText()
    {
        var payload = new byte[PayloadBytesMax];
        try
        {
            return Prefix + Base64Url.EncodeToString(payload.AsSpan(0, Write(payload)));
        }
        finally
        {
            CryptographicOperations.ZeroMemory(payload);
        }
    }

    /// <summary>What the controller keeps.</summary>
    public JoinTokenRecord ToRecord() =>
        new(Id, Id32.Read(SHA256.HashData(_secret)), Expires, Details.Role, Details.Name, null);

    public void Dispose() => CryptographicOperations.ZeroMemory(_secret);

    private int Write(Span<byte> target)
    {
        var writer = new TokenWriter(target);
        Id.Write(writer.Take(Id16.Size));
        _secret.CopyTo(writer.Take(SecretBytes));
        AuthorityHash.Write(writer.Take(Id32.Size));
        BinaryPrimitives.WriteUInt64BigEndian(writer.Take(sizeof(ulong)), (ulong)Expires.ToUnixTimeSeconds());
        writer.Take(1)[0] = Details.RosterHash is null ? (byte)0 : HasRoster;
        Details.RosterHash?.Write(writer.Take(Id32.Size));
        writer.Take(1)[0] = (byte)(Details.Role ?? 0);
        writer.Text(Details.Name ?? "");
        writer.Take(1)[0] = (byte)Details.Endpoints.Count;
        foreach (var endpoint in Details.Endpoints)
        {
            writer.Text(endpoint);
        }
        var check = CheckOf(target[..writer.Length]);
        check.CopyTo(writer.Take(CheckBytes));
        return writer.Length;
    }

    private static JoinToken ParsePayload(ReadOnlySpan<byte> payload, ReadOnlySpan<char> text)
    {
        // The check comes first: a mistyped token is told apart from one that never was right.
        if (payload.Length is < FixedBytes + CheckBytes or > PayloadBytesMax
            || !CheckOf(payload[..^CheckBytes]).AsSpan().SequenceEqual(payload[^CheckBytes..])
            || !text.SequenceEqual(Base64Url.EncodeToString(payload)))
        {
            throw Incomplete();
        }
        var reader = new TokenReader(payload[..^CheckBytes]);
        var id = Id16.Read(reader.Take(Id16.Size));
        var secret = reader.Take(SecretBytes);
        var authority = Id32.Read(reader.Take(Id32.Size));
        var expiry = BinaryPrimitives.ReadUInt64BigEndian(reader.Take(sizeof(ulong)));
        var flags = reader.Byte();
        Id32? roster = (flags & HasRoster) != 0 ? Id32.Read(reader.Take(Id32.Size)) : null;
        var role = reader.Byte();
        var name = reader.Text();
        var endpoints = new string[Math.Min((int)reader.Byte(), EndpointsMax + 1)];
        for (var i = 0; i < endpoints.Length; i++)
        {
            endpoints[i] = reader.Text();
        }
        var details = new JoinTokenDetails
        {
            Endpoints = endpoints,
            Role = role == 0 ? null : (PeerRole)role,
            Name = name.Length == 0 ? null : name,
            RosterHash = roster,
        };
        if (!reader.IsAtEnd || (flags & ~HasRoster) != 0 || expiry > (ulong)DateTimeOffset.MaxValue.ToUnixTimeSeconds() || FindDefect(details) is not null)
        {
            throw FaultException.Malformed("The join token carries something that this version does not know: make one with a controller of this version.");
        }
        return new JoinToken(id, secret.ToArray(), authority, DateTimeOffset.FromUnixTimeSeconds((long)expiry), details);
    }

    private static string? FindDefect(JoinTokenDetails details)
    {
        if (details.Role is { } role && !Enum.IsDefined(role))
        {
            return "The join token's role is unknown.";
        }
        if (details.Name is not null && !PeerNames.IsName(details.Name))
        {
            return $"A name has 1 to {PeerNames.NameLengthMax} characters of a-z, 0-9, '.' and '-'.";
        }
        if (details.Endpoints.Count > EndpointsMax)
        {
            return $"A join token carries at most {EndpointsMax} endpoints.";
        }
        return details.Endpoints.All(IsEndpoint) ? null : $"An endpoint is an https URI of at most {EndpointLengthMax} ASCII characters, such as https://backup.example.org:7443.";
    }

    private static bool IsEndpoint(string endpoint) =>
        endpoint.Length is > 0 and <= EndpointLengthMax
        && endpoint.All(static c => c is > ' ' and < '\x7F')
        && Uri.TryCreate(endpoint, UriKind.Absolute, out var uri)
        && uri.Scheme == Uri.UriSchemeHttps;

    private static byte[] CheckOf(ReadOnlySpan<byte> payload)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.ASCII.GetBytes(Prefix));
        hash.AppendData(payload);
        return hash.GetHashAndReset()[..CheckBytes];
    }

    private static FaultException Incomplete() => FaultException.Malformed("This is not a complete join token: copy it whole.");

    private ref struct TokenWriter(Span<byte> target)
    {
        private readonly Span<byte> _target = target;

        public int Length { get; private set; }

        public Span<byte> Take(int count)
        {
            var taken = _target.Slice(Length, count);
            Length += count;
            return taken;
        }

        public void Text(string text)
        {
            Take(1)[0] = (byte)text.Length;
            Encoding.ASCII.GetBytes(text, Take(text.Length));
        }
    }

    private ref struct TokenReader(ReadOnlySpan<byte> source)
    {
        private ReadOnlySpan<byte> _rest = source;

        public readonly bool IsAtEnd => _rest.IsEmpty;

        public ReadOnlySpan<byte> Take(int count)
        {
            if (count > _rest.Length)
            {
                throw Incomplete();
            }
            var taken = _rest[..count];
            _rest = _rest[count..];
            return taken;
        }

        public byte Byte() => Take(1)[0];

        public string Text() => Encoding.ASCII.GetString(Take(Byte()));
    }
}

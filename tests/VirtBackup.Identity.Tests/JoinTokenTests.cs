using System.Buffers.Text;
using System.Security.Cryptography;
using CsCheck;
using Microsoft.Extensions.Time.Testing;
using VirtBackup.Core;

namespace VirtBackup.Identity.Tests;

public sealed class JoinTokenTests
{
    private static readonly Id32 Authority = new(5, 7);
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2031, 5, 4, 3, 2, 1, TimeSpan.Zero));

    private static readonly Gen<JoinTokenDetails> Details =
        Gen.Select(Gen.Int[0, JoinToken.EndpointsMax], Gen.Int[0, 4], Gen.Char["abc09.-"].Array[0, PeerNames.NameLengthMax], Gen.Bool,
            static (endpoints, role, name, roster) => new JoinTokenDetails
            {
                Endpoints = [.. Enumerable.Range(0, endpoints).Select(static i => $"https://c{i}.example.org:744{i}")],
                Role = role == 0 ? null : (PeerRole)role,
                Name = name.Length == 0 ? null : new string(name),
                RosterHash = roster ? new Id32(1, 2) : null,
            });

    [Fact]
    public void A_token_reads_back() => Details.Sample(details =>
    {
        using var token = Create(details);
        using var read = JoinToken.Parse($"  {token.ToText()}\r\n");
        Assert.Equal((token.Id, Authority, token.Expires), (read.Id, read.AuthorityHash, read.Expires));
        Assert.Equal(token.Secret.ToArray(), read.Secret.ToArray());
        Assert.Equal(details.Endpoints, read.Details.Endpoints);
        Assert.Equal((details.Role, details.Name, details.RosterHash), (read.Details.Role, read.Details.Name, read.Details.RosterHash));
        Assert.Equal(token.ToText(), read.ToText());
    });

    [Fact]
    public void A_mistyped_or_cut_token_is_told_apart()
    {
        using var token = Create(new JoinTokenDetails { Name = "hv1", Role = PeerRole.Agent });
        var text = token.ToText();
        Gen.Select(Gen.Int[JoinToken.Prefix.Length, text.Length - 1], Gen.Char["ABCxyz019-_ .é"], Gen.Bool).Sample((at, letter, cut) =>
        {
            var damaged = cut ? text[..at] : text[..at] + letter + text[(at + 1)..];
            if (damaged != text)
            {
                var fault = Assert.Throws<FaultException>(() => JoinToken.Parse(damaged));
                Assert.Equal((FaultReason.Malformed, "This is not a complete join token: copy it whole."), (fault.Reason, fault.Message));
            }
        });
        Assert.Equal(FaultReason.Unsupported, Assert.Throws<FaultException>(() => JoinToken.Parse("vbjoin2.AAAA")).Reason);
    }

    [Fact]
    public void Well_checked_nonsense_fails_only_with_faults() => Gen.Byte.Array[0, 400].Sample(body =>
    {
        byte[] check = SHA256.HashData([.. "vbjoin1."u8, .. body])[..8];
        var text = JoinToken.Prefix + Base64Url.EncodeToString([.. body, .. check]);
        try
        {
            using var token = JoinToken.Parse(text);
            Assert.Equal(text, token.ToText());
        }
        catch (FaultException fault)
        {
            Assert.Equal(FaultReason.Malformed, fault.Reason);
        }
    });

    [Fact]
    public void Arbitrary_text_fails_only_with_faults() => Gen.String.Sample(static text =>
    {
        Assert.Throws<FaultException>(() => JoinToken.Parse(text));
        Assert.Throws<FaultException>(() => JoinToken.Parse(JoinToken.Prefix + text));
    });

    [Fact]
    public void A_token_longer_than_any_is_refused_unread() =>
        Assert.Throws<FaultException>(static () => JoinToken.Parse(JoinToken.Prefix + new string('A', JoinToken.TextLengthMax)));

    [Fact]
    public void The_largest_token_fits_its_bound()
    {
        var endpoint = "https://" + new string('a', JoinToken.EndpointLengthMax - 8 - 2) + "/x";
        using var token = Create(new JoinTokenDetails
        {
            Endpoints = [.. Enumerable.Repeat(endpoint, JoinToken.EndpointsMax)],
            Name = new string('n', PeerNames.NameLengthMax),
            RosterHash = new Id32(1, 1),
        });
        using var read = JoinToken.Parse(token.ToText());
        Assert.Equal(token.Details.Endpoints, read.Details.Endpoints);
    }

    [Theory]
    [InlineData("http://plain.example")]
    [InlineData("controller:7443 x")]
    [InlineData("")]
    public void An_unusable_endpoint_is_refused(string endpoint) => Assert.Equal(FaultReason.InvalidArgument,
        Assert.Throws<FaultException>(() => Create(new JoinTokenDetails { Endpoints = [endpoint] })).Reason);

    [Fact]
    public void A_token_is_good_once()
    {
        using var token = Create(new JoinTokenDetails { Role = PeerRole.Peer, Name = "site-b" });
        var record = token.ToRecord();
        var used = record.Redeem(token.Secret, _time);
        Assert.Equal(_time.GetUtcNow(), used.Used);
        Assert.Equal((PeerRole.Peer, "site-b"), (used.Role!.Value, used.Name));
        Assert.Contains("was used at 2031-05-04", Refused(used, token.Secret.ToArray()), StringComparison.Ordinal);
    }

    [Fact]
    public void An_expired_token_and_a_wrong_secret_are_refused()
    {
        using var token = Create(new JoinTokenDetails());
        var record = token.ToRecord();
        var wrong = token.Secret.ToArray();
        wrong[31] ^= 1;
        Assert.Contains("not one of this controller's", Refused(record, wrong), StringComparison.Ordinal);
        Assert.Contains("not one of this controller's", Refused(record, []), StringComparison.Ordinal);
        _time.SetUtcNow(record.Expires - TimeSpan.FromTicks(1));
        Assert.NotNull(record.Redeem(token.Secret, _time).Used);
        _time.SetUtcNow(record.Expires);
        Assert.Contains("expired at 2031-05-04", Refused(record, token.Secret.ToArray()), StringComparison.Ordinal);
        // Without the secret nobody learns that it expired.
        Assert.Contains("not one of this controller's", Refused(record, wrong), StringComparison.Ordinal);
    }

    [Fact]
    public void A_disposed_token_holds_no_secret()
    {
        var token = Create(new JoinTokenDetails());
        token.Dispose();
        Assert.All(token.Secret.ToArray(), static b => Assert.Equal(0, b));
    }

    private JoinToken Create(JoinTokenDetails details) =>
        JoinToken.Create(SystemEntropy.Instance, Authority, new DateTimeOffset(2031, 5, 4, 4, 0, 0, TimeSpan.Zero), details);

    private string Refused(JoinTokenRecord record, byte[] secret)
    {
        var fault = Assert.Throws<FaultException>(() => record.Redeem(secret, _time));
        Assert.Equal(FaultReason.Denied, fault.Reason);
        return fault.Message;
    }
}

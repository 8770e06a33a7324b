using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Replication.V1;
using static VirtBackup.Controller.Tests.EnrollmentTests;

namespace VirtBackup.Controller.Tests;

public sealed class PeerEnrollmentTests : IDisposable
{
    private readonly ECDsa _key = ECDsa.Create(ECCurve.NamedCurves.nistP256);

    [Fact]
    public async Task A_controller_joins_with_a_key_of_its_own_and_may_read_nothing_yet()
    {
        await using var world = await World.CreateAsync();
        var joined = await JoinAsync(world, await TokenAsync(world), _key);
        var verdict = world.Role.Chain.ValidateClient(CertificateOf(joined));
        Assert.True(verdict.IsAccepted, verdict.Reason);
        Assert.Equal((PeerRole.Peer, "west"), (verdict.RequirePeer().Role, verdict.RequirePeer().Name));
        Assert.Equal(("west", world.Repository.Head.Uuid.ToString()), (joined.PeerName, joined.RepositoryId));
        var row = await world.Role.Peers.RequireAsync(CallerOf(joined), World.Token);
        Assert.False(row.AllowAll);
        Assert.Empty(await world.Role.Catalog.Peers.ListAllowedAsync("west", World.Token));
    }

    [Fact]
    public async Task A_token_is_good_once_for_its_lifetime_for_its_name_and_for_its_role()
    {
        await using var world = await World.CreateAsync();
        var token = await TokenAsync(world);
        await RefusedAsync(FaultReason.Denied, async () => await JoinAsync(world, token, _key, "east"));
        await JoinAsync(world, token, _key, "west");
        Assert.Contains("was used", (await RefusedAsync(FaultReason.Denied, async () => await JoinAsync(world, token, _key))).Message, StringComparison.Ordinal);
        // An agent's token makes no peer, a peer's no agent, and neither is used up by trying.
        var agents = await world.NewTokenAsync("west");
        Assert.Contains("virtbackup peer token", (await RefusedAsync(FaultReason.Denied, async () => await JoinAsync(world, agents, _key))).Message, StringComparison.Ordinal);
        var peers = await TokenAsync(world, "host-1");
        Assert.Contains("virtbackup agent token", (await RefusedAsync(FaultReason.Denied, () => TestAgent.EnrollAsync(world, "host-1", peers))).Message, StringComparison.Ordinal);
        await TestAgent.EnrollAsync(world, "west", agents);
        world.Time.Advance(TimeSpan.FromMinutes(61));
        Assert.Contains("expired", (await RefusedAsync(FaultReason.Denied, async () => await JoinAsync(world, peers, _key))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Hostile_requests_are_refused_and_leave_the_token_good()
    {
        await using var world = await World.CreateAsync();
        await using var other = await World.CreateAsync();
        var token = await TokenAsync(world);
        await RefusedAsync(FaultReason.Denied, async () => await JoinAsync(world, await TokenAsync(other), _key));
        await RefusedAsync(FaultReason.Malformed, async () => await JoinAsync(world, token[..^3], _key));
        await RefusedAsync(FaultReason.Malformed, async () => await world.Role.Peers.JoinAsync(new JoinRequest { JoinToken = token }, World.Token));
        // A request for a key that the sender does not hold.
        var stolen = SigningRequest.Create(_key);
        stolen[^5] ^= 1;
        var forged = new JoinRequest { JoinToken = token, CertificateSigningRequest = ByteString.CopyFrom(stolen) };
        var refused = await Assert.ThrowsAsync<FaultException>(async () => await world.Role.Peers.JoinAsync(forged, World.Token));
        Assert.True(refused.Reason is FaultReason.Denied or FaultReason.Malformed, refused.Message);
        foreach (var name in (string[])["", "..", ".east", "-east", "a/b", "East"])
        {
            await RefusedAsync(FaultReason.InvalidArgument, async () => await world.Role.Peers.CreateTokenAsync(name, 0, World.Token));
        }
        await JoinAsync(world, token, _key);
    }

    [Fact]
    public async Task Joining_anew_revokes_the_earlier_key_for_good()
    {
        await using var world = await World.CreateAsync();
        var ended = new List<string>();
        world.Role.Peers.PeerRevoked = ended.Add;
        var first = await JoinAsync(world, await TokenAsync(world), _key);
        using var newKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var second = await JoinAsync(world, await TokenAsync(world), newKey);
        Assert.Equal(["west"], ended);
        Assert.Equal(ChainRefusal.Revoked, world.Role.Chain.ValidateClient(CertificateOf(first)).Refusal);
        await RefusedAsync(FaultReason.Denied, async () => await world.Role.Peers.RequireAsync(CallerOf(first), World.Token));
        await RefusedAsync(FaultReason.Denied, async () => await JoinAsync(world, await TokenAsync(world), _key));
        _ = await world.Role.Peers.RequireAsync(CallerOf(second), World.Token);
    }

    [Fact]
    public async Task A_certificate_is_renewed_before_it_expires_and_for_its_key_only()
    {
        await using var world = await World.CreateAsync();
        var joined = await JoinAsync(world, await TokenAsync(world), _key);
        var before = CertificateOf(joined);
        world.Time.Advance(TimeSpan.FromDays(20));
        var renewed = await world.Role.Peers.RenewAsync(CallerOf(joined), Renewal(_key), World.Token);
        var after = Parse(renewed.CertificateChain);
        Assert.True(after.NotAfter > before.NotAfter.AddDays(19));
        using var newKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        await RefusedAsync(FaultReason.Denied, async () => await world.Role.Peers.RenewAsync(CallerOf(joined), Renewal(newKey), World.Token));
        world.Time.Advance(TimeSpan.FromDays(12));
        Assert.Equal(ChainRefusal.Expired, world.Role.Chain.ValidateClient(before).Refusal);
        Assert.True(world.Role.Chain.ValidateClient(after).IsAccepted);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Revoking_and_removing_hold_beyond_a_restart_and_the_loss_of_the_catalog_admits_nobody(bool remove)
    {
        await using var world = await World.CreateAsync();
        var joined = await JoinAsync(world, await TokenAsync(world), _key);
        _ = remove ? await world.Role.Peers.RemoveAsync("west", World.Token) : await world.Role.Peers.RevokeAsync("west", World.Token);
        await CheckAsync(ChainRefusal.Revoked);
        await world.RestartAsync();
        await CheckAsync(ChainRefusal.Revoked);
        // The list of what was revoked is gone with the catalog; a certificate alone still opens nothing.
        await world.RestartAsync(loseCatalog: true);
        await CheckAsync(ChainRefusal.None);
        await RefusedAsync(FaultReason.NotFound, async () => await world.Role.Peers.RevokeAsync("west", World.Token));

        async Task CheckAsync(ChainRefusal expected)
        {
            Assert.Equal(expected, world.Role.Chain.ValidateClient(CertificateOf(joined)).Refusal);
            await RefusedAsync(FaultReason.Denied, async () => await world.Role.Peers.RequireAsync(CallerOf(joined), World.Token));
            await RefusedAsync(FaultReason.Denied, async () => await world.Role.Peers.RenewAsync(CallerOf(joined), Renewal(_key), World.Token));
        }
    }

    public void Dispose() => _key.Dispose();

    private static async Task<string> TokenAsync(World world, string name = "west") => (await world.Role.Peers.CreateTokenAsync(name, 0, World.Token)).Text;

    private static async Task<JoinResponse> JoinAsync(World world, string token, ECDsa key, string name = "") =>
        await world.Role.Peers.JoinAsync(
            new JoinRequest { JoinToken = token, PeerName = name, CertificateSigningRequest = ByteString.CopyFrom(SigningRequest.Create(key)) }, World.Token);

    private static RenewCertificateRequest Renewal(ECDsa key) => new() { CertificateSigningRequest = ByteString.CopyFrom(SigningRequest.Create(key)) };

    private static X509Certificate2 CertificateOf(JoinResponse joined) => Parse(joined.CertificateChain);

    private static Caller CallerOf(JoinResponse joined) => Caller.From(PeerIdentity.FromCertificate(CertificateOf(joined)));

    private static X509Certificate2 Parse(ByteString pem) => X509Certificate2.CreateFromPem(pem.ToStringUtf8());
}

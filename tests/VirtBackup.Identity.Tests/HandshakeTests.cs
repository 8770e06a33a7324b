using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.Core;

namespace VirtBackup.Identity.Tests;

public sealed class HandshakeTests : IDisposable
{
    private readonly Installation _here = new();
    private readonly List<ChainVerdict> _refusals = [];

    [Theory]
    [InlineData("localhost")]
    [InlineData("127.0.0.1")]
    public async Task Both_sides_accept_each_other(string host)
    {
        var client = Handshake.Client(_here.IssueClient(), _here.Policy.ServerValidation(null, _refusals.Add), host);
        var result = await Handshake.RunAsync(_here.Server, client, _here.Policy.ClientValidation(_refusals.Add));
        Assert.Empty(_refusals);
        Assert.True(result.Completed);
        var peer = _here.Policy.ValidateClient(result.SeenByServer).RequirePeer();
        Assert.Equal((PeerRole.Agent, "host-1.example"), (peer.Role, peer.Name));
    }

    [Fact]
    public async Task An_expired_client_is_refused_with_its_date()
    {
        var certificate = _here.IssueClient();
        _here.Time.Advance(CertificateAuthority.AgentLifetime + TimeSpan.FromSeconds(2));
        await RefusedByServer(certificate, ChainRefusal.Expired, "expired since 2031-06-03");
    }

    [Fact]
    public async Task A_client_from_the_future_is_refused()
    {
        _here.Time.Advance(TimeSpan.FromDays(10));
        var certificate = _here.IssueClient();
        _here.Time.AdjustTime(_here.Time.GetUtcNow() - TimeSpan.FromDays(1));
        await RefusedByServer(certificate, ChainRefusal.NotYetValid, "not valid before 2031-05-14");
    }

    [Fact]
    public async Task A_client_of_another_authority_is_refused()
    {
        using var other = new Installation();
        await RefusedByServer(other.IssueClient(), ChainRefusal.NotOurs, "not issued by");
    }

    [Fact]
    public async Task A_server_certificate_is_no_client_certificate() =>
        await RefusedByServer(_here.Server, ChainRefusal.WrongUse, "not for clients");

    [Fact]
    public async Task No_certificate_is_refused() => await RefusedByServer(null, ChainRefusal.Missing, "no certificate");

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_revoked_client_is_refused(bool bySerial)
    {
        var certificate = _here.IssueClient();
        var peer = PeerIdentity.FromCertificate(certificate);
        Assert.True(_here.Revoked.Revoke(bySerial ? peer.Serial : peer.KeyId));
        Assert.True(((IRevocationList)_here.Revoked).IsRevoked(peer));
        await RefusedByServer(certificate, ChainRefusal.Revoked, "revoked");
    }

    [Theory]
    [InlineData(null, "other.example")]
    [InlineData("controller.example", "localhost")]
    public async Task A_server_of_another_name_is_refused(string? expected, string host)
    {
        var client = Handshake.Client(_here.IssueClient(), _here.Policy.ServerValidation(expected, _refusals.Add), host);
        Assert.False((await Handshake.RunAsync(_here.Server, client, _here.Policy.ClientValidation())).Completed);
        Assert.Equal(ChainRefusal.WrongName, Assert.Single(_refusals).Refusal);
    }

    [Fact]
    public async Task An_agent_cannot_pose_as_the_server()
    {
        var client = Handshake.Client(_here.IssueClient(), _here.Policy.ServerValidation("localhost", _refusals.Add));
        Assert.False((await Handshake.RunAsync(_here.IssueClient(), client, _here.Policy.ClientValidation())).Completed);
        Assert.Equal(ChainRefusal.WrongUse, Assert.Single(_refusals).Refusal);
    }

    [Fact]
    public async Task A_joining_host_takes_the_root_whose_hash_is_in_its_token()
    {
        using var token = JoinToken.Create(SystemEntropy.Instance, _here.Authority.CertificateHash, _here.Time.GetUtcNow().AddHours(1));
        using var pin = new JoinPin(token, _here.Time);
        var client = Handshake.Client(null, pin.ServerValidation(null, _refusals.Add));
        var result = await Handshake.RunAsync(_here.Server, client, HasNoneYet);
        Assert.Empty(_refusals);
        Assert.True(result.Completed);
        Assert.Equal(_here.Authority.CertificateHash, CertificateAuthority.HashOf(pin.Root!));
    }

    [Fact]
    public async Task A_joining_host_refuses_another_installation()
    {
        using var other = new Installation();
        using var pin = new JoinPin(other.Authority.CertificateHash, _here.Time);
        var client = Handshake.Client(null, pin.ServerValidation(null, _refusals.Add));
        Assert.False((await Handshake.RunAsync(_here.Server, client, HasNoneYet)).Completed);
        Assert.Equal(ChainRefusal.NotOurs, Assert.Single(_refusals).Refusal);
        Assert.Null(pin.Root);
    }

    [Fact]
    public void A_stolen_root_certificate_vouches_for_nothing()
    {
        // The root is public: an impostor can embed it, but cannot sign with it.
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=impostor", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.1")], true));
        request.CertificateExtensions.Add(new X509Extension(EmbeddedRoot.Oid, _here.Authority.Certificate.RawData, false));
        var now = _here.Time.GetUtcNow();
        using var impostor = request.Create(_here.Authority.Certificate.SubjectName, X509SignatureGenerator.CreateForECDsa(key), now, now.AddDays(1), [1, 2, 3]);
        using var pin = new JoinPin(_here.Authority.CertificateHash, _here.Time);
        Assert.Equal(ChainRefusal.NotOurs, pin.Validate(impostor, null, "localhost").Refusal);
        Assert.Null(pin.Root);
    }

    [Fact]
    public void The_callback_for_Kestrel_judges_alike()
    {
        var judge = _here.Policy.ClientCertificateValidation(_refusals.Add);
        Assert.True(judge(_here.IssueClient(), null, SslPolicyErrors.RemoteCertificateChainErrors));
        Assert.False(judge(_here.Server, null, SslPolicyErrors.None));
        Assert.Equal(ChainRefusal.WrongUse, Assert.Single(_refusals).Refusal);
    }

    [Fact]
    public async Task An_enrolled_agent_reconnects_with_its_renewed_certificate()
    {
        using var folder = new TestFolder();
        using var store = AgentKeyStore.LoadOrCreate(folder["keys"], _here.Time);
        Assert.Equal(FaultReason.FailedPrecondition, Assert.Throws<FaultException>(() => store.CreateClientOptions()).Reason);
        using var first = _here.Authority.IssueClient(store.CreateSigningRequest(), PeerRole.Agent, "hv1");
        store.StoreCertificate([first, _here.Authority.Certificate]);
        var options = store.CreateClientOptions("localhost", _refusals.Add);
        var before = await Handshake.RunAsync(_here.Server, options, _here.Policy.ClientValidation(_refusals.Add));
        Assert.True(before.Completed);
        Assert.False(store.IsRenewalDue);
        _here.Time.Advance(CertificateAuthority.AgentLifetime / 3 * 2);
        Assert.True(store.IsRenewalDue);
        using var second = _here.Authority.IssueClient(store.CreateSigningRequest(), PeerRole.Agent, "hv1");
        store.StoreCertificate([second, _here.Authority.Certificate]);
        Assert.False(store.IsRenewalDue);
        var after = await Handshake.RunAsync(_here.Server, options, _here.Policy.ClientValidation(_refusals.Add));
        Assert.Empty(_refusals);
        Assert.Equal(second.SerialNumber, after.SeenByServer!.SerialNumber);
        Assert.NotEqual(first.SerialNumber, second.SerialNumber);
    }

    public void Dispose() => _here.Dispose();

    /// <summary>The controller's judgement while a host joins.</summary>
    private static bool HasNoneYet(object sender, X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors) => certificate is null;

    private async Task RefusedByServer(X509Certificate2? certificate, ChainRefusal refusal, string reason)
    {
        var client = Handshake.Client(certificate, _here.Policy.ServerValidation());
        var result = await Handshake.RunAsync(_here.Server, client, _here.Policy.ClientValidation(_refusals.Add));
        Assert.False(result.Completed);
        var verdict = Assert.Single(_refusals);
        Assert.Equal(refusal, verdict.Refusal);
        Assert.Contains(reason, verdict.Reason, StringComparison.Ordinal);
        Assert.Null(verdict.Peer);
    }
}

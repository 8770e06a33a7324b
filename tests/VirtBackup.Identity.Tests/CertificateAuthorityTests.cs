using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using CsCheck;
using VirtBackup.Core;

namespace VirtBackup.Identity.Tests;

public sealed class CertificateAuthorityTests : IDisposable
{
    private readonly Installation _here = new();

    [Theory]
    [InlineData(PeerRole.Agent, 30)]
    [InlineData(PeerRole.Peer, 30)]
    [InlineData(PeerRole.Controller, 30)]
    [InlineData(PeerRole.Operator, 825)]
    public void Client_certificates_say_who_and_how_long(PeerRole role, int days)
    {
        using var certificate = _here.IssueClient(role, "a-name.0");
        var peer = PeerIdentity.FromCertificate(certificate);
        Assert.Equal((role, "a-name.0"), (peer.Role, peer.Name));
        Assert.Equal(peer.Serial.ToString(), certificate.SerialNumber.ToLowerInvariant());
        Assert.Equal(_here.Time.GetUtcNow() - TimeSpan.FromMinutes(5), new DateTimeOffset(certificate.NotBefore.ToUniversalTime()));
        Assert.Equal(_here.Time.GetUtcNow() + TimeSpan.FromDays(days), new DateTimeOffset(certificate.NotAfter.ToUniversalTime()));
    }

    [Fact]
    public void Only_the_public_key_of_a_request_counts()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var greedy = new CertificateRequest("CN=root,OU=operator", key, HashAlgorithmName.SHA256);
        greedy.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using var issued = _here.Authority.IssueClient(greedy.CreateSigningRequest(), PeerRole.Agent, "hv1");
        Assert.Equal((PeerRole.Agent, "hv1"), (PeerIdentity.FromCertificate(issued).Role, PeerIdentity.FromCertificate(issued).Name));
        Assert.False(Assert.Single(issued.Extensions.OfType<X509BasicConstraintsExtension>()).CertificateAuthority);
        Assert.Equal(PeerIdentity.KeyIdOf(key.ExportSubjectPublicKeyInfo()), PeerIdentity.ReadKeyId(issued));
    }

    [Fact]
    public void A_request_with_a_wrong_signature_is_refused()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var other = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(new X500DistinguishedName("CN=request"), new PublicKey(key), HashAlgorithmName.SHA256);
        var forged = request.CreateSigningRequest(X509SignatureGenerator.CreateForECDsa(other));
        Assert.Equal(FaultReason.Denied, Refused(forged));
    }

    [Fact]
    public void Requests_for_other_keys_are_refused()
    {
        using var rsa = RSA.Create(2048);
        Assert.Equal(FaultReason.Malformed, Refused(new CertificateRequest("CN=r", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1).CreateSigningRequest()));
        using var large = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        Assert.Equal(FaultReason.Malformed, Refused(SigningRequest.Create(large)));
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        Assert.Equal(FaultReason.Malformed, Refused([.. SigningRequest.Create(key), 0]));
    }

    [Fact]
    public void Mutated_requests_fail_only_with_faults()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var good = SigningRequest.Create(key);
        Gen.Select(Gen.Int[0, good.Length - 1], Gen.Int[1, 255]).Sample((at, flip) =>
        {
            var bad = good.ToArray();
            bad[at] ^= (byte)flip;
            try
            {
                // Encodings of a signature may vary; its key may not.
                Assert.Equal(key.ExportSubjectPublicKeyInfo(), SigningRequest.ReadPublicKey(bad).ExportSubjectPublicKeyInfo());
            }
            catch (FaultException fault)
            {
                Assert.True(fault.Reason is FaultReason.Malformed or FaultReason.Denied);
            }
        });
    }

    [Theory]
    [InlineData("")]
    [InlineData("Upper")]
    [InlineData("under_score")]
    [InlineData("a:b")]
    [InlineData("0123456789012345678901234567890123456789012345678901234567890123")]
    public void Unusable_names_are_refused(string name) =>
        Assert.Equal(FaultReason.InvalidArgument, Assert.Throws<FaultException>(() => _here.IssueClient(PeerRole.Agent, name)).Reason);

    [Theory]
    [InlineData("O=VirtBackup,OU=agent,CN=hv1", "urn:virtbackup:operator:hv1")]
    [InlineData("O=VirtBackup,OU=agent,CN=hv1", "urn:virtbackup:agent:hv2")]
    [InlineData("O=VirtBackup,OU=agent,OU=operator,CN=hv1", "urn:virtbackup:agent:hv1")]
    [InlineData("O=VirtBackup,OU=admin,CN=hv1", "urn:virtbackup:admin:hv1")]
    [InlineData("O=VirtBackup,OU=Agent,CN=hv1", "urn:virtbackup:Agent:hv1")]
    [InlineData("O=VirtBackup,OU=1,CN=hv1", "urn:virtbackup:1:hv1")]
    [InlineData("O=VirtBackup,CN=hv1", "urn:virtbackup:agent:hv1")]
    [InlineData("O=VirtBackup,OU=agent,CN=HV1", "urn:virtbackup:agent:HV1")]
    [InlineData("O=VirtBackup,OU=agent,CN=hv1", null)]
    [InlineData("O=VirtBackup,OU=agent,CN=hv1", "urn:virtbackup:agent:hv1 urn:virtbackup:operator:hv1")]
    public void Certificates_without_one_clear_role_are_denied(string subject, string? uris)
    {
        using var certificate = SelfSigned(subject, uris);
        Assert.Equal(FaultReason.Denied, Assert.Throws<FaultException>(() => PeerIdentity.FromCertificate(certificate)).Reason);
    }

    [Fact]
    public void The_same_certificate_with_one_clear_role_is_read()
    {
        using var certificate = SelfSigned("O=VirtBackup,OU=agent,CN=hv1", "urn:virtbackup:agent:hv1");
        Assert.Equal((PeerRole.Agent, "hv1"), (PeerIdentity.FromCertificate(certificate).Role, PeerIdentity.FromCertificate(certificate).Name));
        Assert.Equal(ChainRefusal.NotOurs, _here.Policy.ValidateClient(certificate).Refusal);
    }

    [Fact]
    public void A_saved_authority_loads_and_its_key_is_private()
    {
        using var folder = new TestFolder();
        _here.Authority.Save(folder["ca.crt"], folder["ca.key"]);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(folder["ca.key"]));
        using (var loaded = Load(folder))
        {
            Assert.Equal(_here.Authority.CertificateHash, loaded.CertificateHash);
            using var issued = loaded.IssueServer(["localhost"], []);
            Assert.True(_here.Policy.ValidateServer(issued, "localhost").IsAccepted);
        }
        File.SetUnixFileMode(folder["ca.key"], UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead);
        var fault = Assert.Throws<FaultException>(() => Load(folder));
        Assert.Equal(FaultReason.Denied, fault.Reason);
        Assert.EndsWith($"Run: chmod 600 '{folder["ca.key"]}'", fault.Message, StringComparison.Ordinal);
        File.SetUnixFileMode(folder["ca.key"], UnixFileMode.UserRead);
        using var other = new Installation();
        other.Authority.Save(folder["ca.crt"], folder["other.key"]);
        Assert.Equal(FaultReason.Corrupt, Assert.Throws<FaultException>(() => Load(folder)).Reason);
    }

    [Fact]
    public void The_root_is_what_it_should_be()
    {
        var root = _here.Authority.Certificate;
        Assert.False(root.HasPrivateKey);
        var constraints = Assert.Single(root.Extensions.OfType<X509BasicConstraintsExtension>());
        Assert.Equal((true, true, 0), (constraints.CertificateAuthority, constraints.HasPathLengthConstraint, constraints.PathLengthConstraint));
        Assert.Equal(X509KeyUsageFlags.KeyCertSign, Assert.Single(root.Extensions.OfType<X509KeyUsageExtension>()).KeyUsages);
        Assert.Equal(_here.Time.GetUtcNow().AddYears(20), new DateTimeOffset(root.NotAfter.ToUniversalTime()));
    }

    [Fact]
    public void Nothing_outlives_the_root()
    {
        _here.Time.Advance(_here.Authority.Certificate.NotAfter.ToUniversalTime() - _here.Time.GetUtcNow().UtcDateTime - TimeSpan.FromDays(1));
        using var last = _here.IssueClient();
        Assert.Equal(_here.Authority.Certificate.NotAfter, last.NotAfter);
        _here.Time.Advance(TimeSpan.FromDays(2));
        Assert.Equal(FaultReason.FailedPrecondition, Assert.Throws<FaultException>(() => _here.IssueClient()).Reason);
    }

    [Fact]
    public void Mutated_PEM_files_fail_only_with_faults()
    {
        var pem = Encoding.ASCII.GetBytes(_here.Authority.Certificate.ExportCertificatePem());
        Gen.Select(Gen.Int[0, pem.Length - 1], Gen.Int[0, 40], Gen.Byte.Array[0, 40]).Sample((at, cut, insert) =>
        {
            byte[] mutated = [.. pem[..at], .. insert, .. pem[Math.Min(pem.Length, at + cut)..]];
            try
            {
                using var certificate = CertificateFiles.Parse(mutated, "x.crt");
                Assert.NotEmpty(certificate.RawData);
            }
            catch (FaultException fault)
            {
                Assert.Equal(FaultReason.Malformed, fault.Reason);
            }
        });
    }

    public void Dispose() => _here.Dispose();

    private CertificateAuthority Load(TestFolder folder) =>
        CertificateAuthority.Load(folder["ca.crt"], folder["ca.key"], SystemEntropy.Instance, _here.Time);

    private FaultReason Refused(byte[] request) =>
        Assert.Throws<FaultException>(() => _here.Authority.IssueClient(request, PeerRole.Agent, "hv1")).Reason;

    private X509Certificate2 SelfSigned(string subject, string? uris)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(subject, key, HashAlgorithmName.SHA256);
        if (uris is not null)
        {
            var names = new SubjectAlternativeNameBuilder();
            foreach (var uri in uris.Split(' '))
            {
                names.AddUri(new Uri(uri));
            }
            request.CertificateExtensions.Add(names.Build());
        }
        var now = _here.Time.GetUtcNow();
        byte[] serial = [.. Enumerable.Range(1, 16).Select(static i => (byte)i)];
        return request.Create(request.SubjectName, X509SignatureGenerator.CreateForECDsa(key), now, now.AddDays(1), serial);
    }
}

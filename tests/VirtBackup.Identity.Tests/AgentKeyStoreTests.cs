using System.Security.Cryptography;
using System.Text;
using CsCheck;
using VirtBackup.Core;

namespace VirtBackup.Identity.Tests;

public sealed class AgentKeyStoreTests : IDisposable
{
    private const UnixFileMode Private = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private readonly Installation _here = new();
    private readonly TestFolder _folder = new();

    [Fact]
    public void Keys_and_certificate_survive_a_restart_and_are_private()
    {
        byte[] signing;
        using (var store = Open())
        {
            Assert.Null(store.ClientCertificate);
            Assert.False(store.IsRenewalDue);
            signing = store.ExportSigningPublicKey();
            Enrol(store, "hv1");
        }
        Assert.Equal(Private | UnixFileMode.UserExecute, File.GetUnixFileMode(_folder["keys"]));
        Assert.Equal(["ca.crt", "signing.key", "tls.crt", "tls.key"], Directory.GetFiles(_folder["keys"]).Select(Path.GetFileName).Order());
        Assert.All(Directory.GetFiles(_folder["keys"]), static f => Assert.Equal(Private, File.GetUnixFileMode(f)));
        using var again = Open();
        Assert.Equal((PeerRole.Agent, "hv1"), (again.Identity!.Role, again.Identity.Name));
        Assert.True(again.ClientCertificate!.HasPrivateKey);
        Assert.Equal(signing, again.ExportSigningPublicKey());
        Assert.NotEqual(again.Identity.KeyId, PeerIdentity.KeyIdOf(signing));
    }

    [Theory]
    [InlineData("tls.key", UnixFileMode.GroupRead)]
    [InlineData("signing.key", UnixFileMode.OtherRead)]
    public void A_key_that_others_may_read_is_refused_with_the_remedy(string name, UnixFileMode extra)
    {
        Open().Dispose();
        var path = Path.Combine(_folder["keys"], name);
        File.SetUnixFileMode(path, Private | extra);
        var fault = Assert.Throws<FaultException>(Open);
        Assert.Equal(FaultReason.Denied, fault.Reason);
        Assert.EndsWith($"Run: chmod 600 '{path}'", fault.Message, StringComparison.Ordinal);
        File.SetUnixFileMode(path, Private);
        Open().Dispose();
    }

    [Fact]
    public void A_folder_that_others_may_enter_is_refused_with_the_remedy()
    {
        Open().Dispose();
        File.SetUnixFileMode(_folder["keys"], Private | UnixFileMode.UserExecute | UnixFileMode.OtherExecute);
        Assert.EndsWith($"Run: chmod 700 '{_folder["keys"]}'", Assert.Throws<FaultException>(Open).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Certificates_for_other_keys_or_from_other_authorities_are_refused()
    {
        using var store = Open();
        using var stranger = _here.IssueClient();
        Assert.Equal(FaultReason.Denied, Assert.Throws<FaultException>(() => store.StoreCertificate([stranger, _here.Authority.Certificate])).Reason);
        using var other = new Installation();
        using var foreign = other.Authority.IssueClient(store.CreateSigningRequest(), PeerRole.Agent, "hv1");
        Assert.Equal(FaultReason.Denied, Assert.Throws<FaultException>(() => store.StoreCertificate([foreign, _here.Authority.Certificate])).Reason);
        Assert.Null(store.ClientCertificate);
        Enrol(store, "hv1");
        var fault = Assert.Throws<FaultException>(() => store.StoreCertificate([foreign, other.Authority.Certificate]));
        Assert.Contains("another certificate authority", fault.Message, StringComparison.Ordinal);
        Assert.Equal(_here.Authority.CertificateHash, CertificateAuthority.HashOf(store.Root!));
    }

    [Fact]
    public void A_certificate_renewed_by_another_program_is_picked_up()
    {
        using var running = Open();
        Enrol(running, "hv1");
        var before = running.ClientCertificate!.SerialNumber;
        Assert.False(running.Reload());
        using (var tool = Open())
        {
            Enrol(tool, "hv1");
        }
        Assert.True(running.Reload());
        Assert.NotEqual(before, running.ClientCertificate!.SerialNumber);
    }

    [Fact]
    public void A_file_left_by_a_crash_does_not_stand_in_the_way()
    {
        using var store = Open();
        File.WriteAllText(Path.Combine(_folder["keys"], "tls.crt.new"), "half");
        Enrol(store, "hv1");
        using var again = Open();
        Assert.Equal("hv1", again.Identity!.Name);
    }

    [Fact]
    public void A_lost_key_is_not_silently_replaced()
    {
        using (var store = Open())
        {
            Enrol(store, "hv1");
        }
        File.Delete(Path.Combine(_folder["keys"], "tls.key"));
        Assert.Equal(FaultReason.NotFound, Assert.Throws<FaultException>(Open).Reason);
        Assert.False(File.Exists(Path.Combine(_folder["keys"], "tls.key")));
    }

    [Fact]
    public void Mutated_key_files_fail_only_with_faults()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var pem = Encoding.ASCII.GetBytes(key.ExportPkcs8PrivateKeyPem());
        Gen.Select(Gen.Int[0, pem.Length - 1], Gen.Int[0, 20], Gen.Byte.Array[0, 20]).Sample((at, cut, insert) =>
        {
            PrivateFiles.Write(_folder["x.key"], [.. pem[..at], .. insert, .. pem[Math.Min(pem.Length, at + cut)..]]);
            try
            {
                using var read = PrivateFiles.ReadKey(_folder["x.key"]);
                Assert.Equal(256, read.KeySize);
            }
            catch (FaultException fault)
            {
                Assert.Equal(FaultReason.Corrupt, fault.Reason);
            }
        }, iter: 300, threads: 1);
    }

    public void Dispose()
    {
        _here.Dispose();
        _folder.Dispose();
    }

    private AgentKeyStore Open() => AgentKeyStore.LoadOrCreate(_folder["keys"], _here.Time);

    private void Enrol(AgentKeyStore store, string name)
    {
        using var issued = _here.Authority.IssueClient(store.CreateSigningRequest(), PeerRole.Agent, name);
        store.StoreCertificate([issued, _here.Authority.Certificate]);
    }
}

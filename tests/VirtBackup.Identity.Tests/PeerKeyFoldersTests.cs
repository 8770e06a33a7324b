using System.Net;
using VirtBackup.Core;

namespace VirtBackup.Identity.Tests;

public sealed class PeerKeyFoldersTests : IDisposable
{
    private const UnixFileMode Private = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private readonly Installation _there = new();
    private readonly TestFolder _folder = new();

    [Fact]
    public void Each_peer_has_a_key_of_its_own_which_stays_private_and_survives_a_restart()
    {
        Id16 east;
        using (var folders = Open())
        {
            Assert.Null(folders.Find("east"));
            Join(folders, "east", "west");
            Join(folders, "north", "west");
            east = folders.Find("east")!.Identity!.KeyId;
            Assert.NotEqual(east, folders.Find("north")!.Identity!.KeyId);
        }
        Assert.Equal(["ca.crt", "tls.crt", "tls.key"], Directory.GetFiles(Path.Combine(_folder["peers"], "east")).Select(Path.GetFileName).Order());
        Assert.All(Directory.GetFiles(_folder["peers"], "*", SearchOption.AllDirectories), static f => Assert.Equal(Private, File.GetUnixFileMode(f)));
        Assert.All(
            Directory.GetDirectories(_folder["peers"]).Append(_folder["peers"]), static f => Assert.Equal(Private | UnixFileMode.UserExecute, File.GetUnixFileMode(f)));
        using var again = Open();
        var found = again.Find("east")!;
        Assert.Equal((PeerRole.Peer, "west", east), (found.Identity!.Role, found.Identity.Name, found.Identity.KeyId));
        Assert.Same(found, again.Find("east"));
    }

    [Theory]
    [InlineData("..")]
    [InlineData(".")]
    [InlineData(".removed.east")]
    [InlineData("-east")]
    [InlineData("a/b")]
    [InlineData("East")]
    [InlineData("")]
    public void A_name_that_would_lead_elsewhere_is_refused(string name)
    {
        using var folders = Open();
        Assert.Equal(FaultReason.InvalidArgument, Assert.Throws<FaultException>(() => folders.BeginJoin(name)).Reason);
        Assert.Null(folders.Find(name));
        Assert.False(folders.Remove(name));
        Assert.False(Directory.Exists(_folder["peers"]));
    }

    [Fact]
    public void Joining_anew_makes_a_new_key_also_with_another_authority()
    {
        using var other = new Installation();
        using var folders = Open();
        Join(folders, "east", "west");
        var before = folders.Find("east")!;
        Join(folders, "east", "west", other);
        var after = folders.Find("east")!;
        Assert.NotEqual(before.Identity!.KeyId, after.Identity!.KeyId);
        Assert.Equal(other.Authority.CertificateHash, CertificateAuthority.HashOf(after.Root!));
        Assert.Equal(["east"], Names());
    }

    [Fact]
    public void What_was_begun_and_not_admitted_changes_nothing()
    {
        using var folders = Open();
        Join(folders, "east", "west");
        var before = folders.Find("east")!.Identity!.KeyId;
        folders.BeginJoin("east").Dispose();
        folders.BeginJoin("north").Dispose();
        Assert.Equal(before, folders.Find("east")!.Identity!.KeyId);
        Assert.Null(folders.Find("north"));
        using var again = Open();
        Assert.Equal(before, again.Find("east")!.Identity!.KeyId);
        Assert.Equal(["east"], Names());
    }

    [Fact]
    public void A_removed_peer_leaves_nothing()
    {
        using var folders = Open();
        Join(folders, "east", "west");
        Assert.True(folders.Remove("east"));
        Assert.False(folders.Remove("east"));
        Assert.Null(folders.Find("east"));
        Assert.Empty(Names());
    }

    [Theory]
    [InlineData("certificate kept")]
    [InlineData("old one moved away")]
    [InlineData("new one in place")]
    public void An_admission_that_a_crash_cut_short_counts_after_the_restart(string crashedWhen)
    {
        Id16 admitted;
        using (var folders = Open())
        {
            Join(folders, "east", "west");
            using var keys = folders.BeginJoin("east");
            Admit(keys, "west", _there);
            admitted = keys.Identity!.KeyId;
        }
        if (crashedWhen != "certificate kept")
        {
            Move("east", ".removed.east");
        }
        if (crashedWhen == "new one in place")
        {
            Move(".joining.east", "east");
        }
        using var again = Open();
        Assert.Equal(admitted, again.Find("east")!.Identity!.KeyId);
        Assert.Equal(["east"], Names());
    }

    [Fact]
    public void A_removal_that_a_crash_cut_short_is_finished()
    {
        using (var folders = Open())
        {
            Join(folders, "east", "west");
        }
        Move("east", ".removed.east");
        using var again = Open();
        Assert.Empty(Names());
        Assert.Null(again.Find("east"));
    }

    [Fact]
    public void A_peers_key_that_others_may_read_is_refused()
    {
        using (var folders = Open())
        {
            Join(folders, "east", "west");
        }
        File.SetUnixFileMode(Path.Combine(_folder["peers"], "east", "tls.key"), Private | UnixFileMode.OtherRead);
        using var again = Open();
        Assert.Equal(FaultReason.Denied, Assert.Throws<FaultException>(() => again.Find("east")).Reason);
    }

    [Fact]
    public async Task The_pair_opens_connections_to_that_peer_only()
    {
        using var other = new Installation();
        using var folders = Open();
        Join(folders, "east", "west");
        var options = folders.Find("east")!.CreateClientOptions("localhost");
        var met = await Handshake.RunAsync(_there.Server, options, _there.Policy.ClientValidation());
        Assert.True(met.Completed);
        Assert.Equal(PeerRole.Peer, PeerIdentity.FromCertificate(met.SeenByServer!).Role);
        // Another installation at the same address, with whatever names: the root decides.
        using var impostor = other.Authority.IssueServer(["localhost"], [IPAddress.Loopback]);
        Assert.False((await Handshake.RunAsync(impostor, options, other.Policy.ClientValidation())).Completed);
    }

    public void Dispose()
    {
        _there.Dispose();
        _folder.Dispose();
    }

    private PeerKeyFolders Open() => new(_folder["peers"], _there.Time);

    private void Join(PeerKeyFolders folders, string peer, string ownName, Installation? there = null)
    {
        using (var keys = folders.BeginJoin(peer))
        {
            Admit(keys, ownName, there ?? _there);
        }
        folders.CompleteJoin(peer);
    }

    private static void Admit(PeerKeyStore keys, string ownName, Installation there)
    {
        using var issued = there.Authority.IssueClient(keys.CreateSigningRequest(), PeerRole.Peer, ownName);
        keys.StoreCertificate([issued, there.Authority.Certificate]);
    }

    private string?[] Names() => [.. Directory.GetFileSystemEntries(_folder["peers"]).Select(Path.GetFileName)];

    private void Move(string from, string to) => Directory.Move(Path.Combine(_folder["peers"], from), Path.Combine(_folder["peers"], to));
}

using VirtBackup.Cli.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Tests;

public sealed class ControllerInitTests : IDisposable
{
    private const UnixFileMode OwnerFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OwnerFolder = OwnerFile | UnixFileMode.UserExecute;

    private readonly TempFolder _home = new();

    [Fact]
    public async Task A_new_controller_is_its_owners_alone_and_is_never_overwritten()
    {
        var made = (await InitAsync("--kit", "kit", "-o", "json")).Succeeds().Json;
        Assert.Equal(_home.File("kit"), (string?)made["kit"]);
        foreach (var entry in new DirectoryInfo(_home.File("data")).EnumerateFileSystemInfos("*", SearchOption.AllDirectories).Append(new DirectoryInfo(_home.File("operator"))))
        {
            if (entry is DirectoryInfo || entry.Name is not ("ca.crt" or "server.crt" or "controller.json"))
            {
                Assert.Equal((entry.Name, entry is DirectoryInfo ? OwnerFolder : OwnerFile), (entry.Name, entry.UnixFileMode));
            }
        }
        Assert.Equal(OwnerFile, File.GetUnixFileMode(_home.File("kit")));
        Assert.Equal(OwnerFile, File.GetUnixFileMode(_home.File("operator/operator.key")));
        Assert.Equal("localhost:7443\n", File.ReadAllText(_home.File("operator/controller")));
        var before = Snapshot();
        (await InitAsync("--kit", "kit2")).Fails(4, "holds a controller already", "--data");
        Assert.Equal(before, Snapshot());
    }

    [Fact]
    public async Task The_kit_on_a_terminal_goes_to_standard_error_and_json_needs_a_file()
    {
        (await InitAsync("-o", "json")).FailsAsJson(2, "usage", "nowhere to go", "--kit FILE");
        Assert.Empty(Snapshot());
        var made = (await InitAsync()).Succeeds();
        Assert.Contains("Print or write down the recovery kit", made.Error);
        Assert.DoesNotContain("recovery kit and keep", made.Output);
    }

    [Fact]
    public async Task A_failure_leaves_nothing_half_done()
    {
        Directory.CreateDirectory(_home.File("repository"));
        File.WriteAllText(_home.File("repository/mine"), "data");
        (await InitAsync("--kit", "kit")).Fails(4, "is not empty", "--from-kit");
        Assert.Equal([_home.File("repository/mine")], Snapshot());
        Directory.Delete(_home.File("repository"), recursive: true);
        // The kit is handed over near the end, when almost everything is there.
        Assert.NotEqual(0, (await InitAsync("--kit", "no/such/folder/kit")).ExitCode);
        Assert.Empty(Snapshot());
        Assert.False(Directory.Exists(_home.File("repository")));
        (await InitAsync("--kit", "kit")).Succeeds();
    }

    [Fact]
    public async Task A_kit_brings_the_same_authority_and_keys_back()
    {
        (await InitAsync("--kit", "kit")).Succeeds();
        var first = new ControllerHome(_home.File("data"));
        var (authority, escrow) = (File.ReadAllBytes(first.AuthorityCertificatePath), first.ReadEscrow());
        Directory.Delete(first.Folder, recursive: true);
        Directory.Delete(_home.File("operator"), recursive: true);
        (await InitAsync("--from-kit", "kit")).Succeeds();
        Assert.Equal(authority, File.ReadAllBytes(first.AuthorityCertificatePath));
        using var before = EscrowKeys.Parse(escrow);
        using var after = EscrowKeys.Parse(first.ReadEscrow());
        Assert.Equal(before.RestoreKey.Public.Id, after.RestoreKey.Public.Id);
        using var vmKey = VmKey.Create(SystemEntropy.Instance);
        var (repository, vm) = (Id16.Create(SystemEntropy.Instance), Id16.Create(SystemEntropy.Instance));
        using var opened = KeySealing.Open(KeySealing.Seal(vmKey, repository, vm, before.RestoreKey.Public, SystemEntropy.Instance), after.RestoreKey);
        Assert.Equal(vmKey.EpochId, opened.EpochId);
        using var idKey = before.Root.DeriveIdKey(repository, 1);
        using var again = after.Root.DeriveIdKey(repository, 1);
        Assert.Equal(Bytes(idKey), Bytes(again));
    }

    [Fact]
    public async Task A_kit_of_another_repository_is_refused()
    {
        (await InitAsync("--kit", "kit")).Succeeds();
        (await CommandLine.RunAsync(_home, "controller", "init", "--data", "other", "--repository", "other-repository", "--kit", "other-kit", "--operator-credentials", "other-operator")).Succeeds();
        var before = Snapshot();
        (await CommandLine.RunAsync(_home, "controller", "init", "--data", "third", "--repository", "repository", "--from-kit", "other-kit", "--operator-credentials", "third-operator"))
            .Fails(4, "The kit belongs to repository");
        Assert.Equal(before, Snapshot());
    }

    public void Dispose() => _home.Dispose();

    private Task<Outcome> InitAsync(params string[] more) => CommandLine.RunAsync(
        _home, ["controller", "init", "--data", "data", "--repository", "repository", "--server-name", "localhost", "--operator-credentials", "operator", .. more]);

    private string[] Snapshot() => [.. Directory.EnumerateFiles(_home.Path, "*", SearchOption.AllDirectories).Where(file => !file.Contains("/.", StringComparison.Ordinal)).Order()];

    private static byte[] Bytes(IdKey key)
    {
        var bytes = new byte[IdKey.Size];
        key.CopyTo(bytes);
        return bytes;
    }
}

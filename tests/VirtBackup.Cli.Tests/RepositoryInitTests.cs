using VirtBackup.Cli.Tests.Fixtures;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Tests;

/// <summary>An empty repository for a controller that exists.</summary>
public sealed class RepositoryInitTests : IAsyncLifetime
{
    private readonly TempFolder _home = new();
    private string _firstId = "";

    public async ValueTask InitializeAsync() => _firstId = (string)(await CommandLine.RunAsync(
        _home, "controller", "init", "--data", "data", "--repository", "first", "--kit", "kit-1", "--operator-credentials", "operator", "-o", "json")).Succeeds().Json["repository_id"]!;

    [Fact]
    public async Task The_controller_uses_the_new_repository_and_each_has_its_kit()
    {
        var before = Snapshot("first");
        var made = (await InitAsync("second", "--kit", "kit-2", "-o", "json")).Succeeds().Json;
        var id = (string)made["repository_id"]!;
        Assert.NotEqual(_firstId, id);
        Assert.Equal((_firstId, _home.File("first"), _home.File("kit-2")), ((string)made["previous_repository_id"]!, (string)made["previous_repository"]!, (string)made["kit"]!));
        var settings = new ControllerHome(_home.File("data")).ReadSettings();
        Assert.Equal((_home.File("second"), id), (settings.RepositoryPath, settings.RepositoryId));
        Assert.Equal(before, Snapshot("first"));
        Assert.Equal(id, (string?)(await CommandLine.RunAsync(_home, "repository", "status", "--repository", "second", "-o", "json")).Succeeds().Json["repository_id"]);

        // The index was the first repository's; a backup goes into the second.
        (await CommandLine.RunAsync(_home, "repository", "verify", "--data", "data")).Succeeds();
        await SmallBackup.CommitAsync(_home.File("data"));
        var verified = (await CommandLine.RunAsync(_home, "repository", "verify", "--full", "--data", "data", "-o", "json")).Succeeds().Json["result"]!["verify"]!;
        Assert.Equal((SmallBackup.Chunks, 0), ((int)verified["records"]!, (int)verified["damages_total"]!));

        (await RebuildAsync("first", "kit-2")).Fails(4, "The kit belongs to repository");
        (await RebuildAsync("first", "kit-1")).Succeeds();
        Directory.Delete(_home.File("rebuilt"), recursive: true);
        Directory.Delete(_home.File("rebuilt-operator"), recursive: true);
        (await RebuildAsync("second", "kit-2")).Succeeds();
    }

    [Fact]
    public async Task A_failure_changes_nothing()
    {
        var before = Snapshot(".");
        (await InitAsync("first")).Fails(4, "is not empty", "--repository");
        (await InitAsync("second", "--kit", "no/such/folder/kit")).Fails(1, "cannot be written", "--kit FILE");
        (await InitAsync("second", "--kit", "kit-1")).Fails(4, "exists already", "--kit");
        (await InitAsync("second", "-o", "json")).FailsAsJson(2, "usage", "nowhere to go", "--kit FILE");
        (await CommandLine.RunAsync(_home, "repository", "init", "--data", "nowhere", "--repository", "second")).Fails(5, "holds no controller", "controller init");
        using (new ControllerHome(_home.File("data")).TakeLock())
        {
            (await InitAsync("second")).Fails(4, "runs: this works on a stopped controller only", "stop the controller");
        }
        File.Delete(_home.File("data/lock"));
        Assert.Equal(before, Snapshot("."));
        Assert.False(Directory.Exists(_home.File("second")));
    }

    public ValueTask DisposeAsync()
    {
        _home.Dispose();
        return ValueTask.CompletedTask;
    }

    private Task<Outcome> InitAsync(string folder, params string[] more) =>
        CommandLine.RunAsync(_home, ["repository", "init", "--data", "data", "--repository", folder, .. more]);

    private Task<Outcome> RebuildAsync(string repository, string kit) => CommandLine.RunAsync(
        _home, "controller", "init", "--data", "rebuilt", "--repository", repository, "--from-kit", kit, "--operator-credentials", "rebuilt-operator");

    private string[] Snapshot(string folder) =>
        [.. Directory.EnumerateFiles(_home.File(folder), "*", SearchOption.AllDirectories).Where(static file => !file.EndsWith("/data/lock", StringComparison.Ordinal) && !file.Contains("/.", StringComparison.Ordinal)).Order().Select(file => $"{file} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(file)))}")];
}

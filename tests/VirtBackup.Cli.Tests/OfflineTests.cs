using VirtBackup.Cli.Tests.Fixtures;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Tests;

/// <summary>Verbs that work on a stopped controller's repository.</summary>
public sealed class OfflineTests : IAsyncLifetime
{
    private readonly TempFolder _home = new();

    public async ValueTask InitializeAsync()
    {
        (await CommandLine.RunAsync(_home, "controller", "init", "--data", "data", "--repository", "repository", "--kit", "kit", "--operator-credentials", "operator")).Succeeds();
        await SmallBackup.CommitAsync(_home.File("data"));
    }

    [Fact]
    public async Task A_sound_repository_verifies_with_and_without_keys_and_its_index_is_rebuilt()
    {
        var status = (await RunAsync("status", "--repository", "repository")).Json;
        Assert.Equal((1, 2), ((int)status["recovery_points"]!, (int)status["packs"]!));
        Assert.Equal(0, (int)(await VerifyAsync())["records"]!);
        Assert.Equal(SmallBackup.Chunks, (int)(await VerifyAsync("--full"))["records"]!);
        File.Delete(_home.File("data/index.db"));
        var rebuilt = (await RunAsync("rebuild-index", "--data", "data")).Json;
        Assert.Equal((2, SmallBackup.Chunks, 1, 0), ((int)rebuilt["packs"]!, (int)rebuilt["chunks"]!, (int)rebuilt["recovery_points"]!, (int)rebuilt["problems_total"]!));
        Assert.Equal(SmallBackup.Chunks, (int)(await VerifyAsync("--full"))["records"]!);
        Assert.Contains("The index is rebuilt.", (await CommandLine.RunAsync(_home, "repository", "rebuild-index", "--data", "data")).Succeeds().Output);
    }

    [Fact]
    public async Task A_flipped_bit_is_found_and_says_what_it_takes()
    {
        var pack = Directory.EnumerateFiles(_home.File("repository/packs"), "*", SearchOption.AllDirectories).MaxBy(static file => new FileInfo(file).Length)!;
        var bytes = File.ReadAllBytes(pack);
        bytes[500] ^= 1;
        File.SetUnixFileMode(pack, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        File.WriteAllBytes(pack, bytes);
        var outcome = await CommandLine.RunAsync(_home, "repository", "verify", "--data", "data", "-o", "json");
        Assert.Equal(6, outcome.ExitCode);
        var damage = outcome.Json["result"]!["verify"]!["damages"]!.AsArray()[0]!;
        Assert.StartsWith("packs/", (string?)damage["object"]);
        // Without keys nobody can tell which chunk of the pack it was.
        Assert.Equal(SmallBackup.Chunks * 4096, (int)damage["ranges"]![0]!["length"]!);
    }

    [Fact]
    public async Task A_running_controller_is_not_disturbed()
    {
        using (new ControllerHome(_home.File("data")).TakeLock())
        {
            foreach (var verb in new[] { "rebuild-index", "verify" })
            {
                (await CommandLine.RunAsync(_home, "repository", verb, "--data", "data")).Fails(4, "runs: this works on a stopped controller only", "stop the controller");
            }
            (await RunAsync("status", "--repository", "repository")).Succeeds();
        }
        (await CommandLine.RunAsync(_home, "repository", "rebuild-index", "--data", "nowhere")).Fails(5, "holds no controller", "--data DIR");
        (await CommandLine.RunAsync(_home, "repository", "status", "--repository", "data")).Fails(5, "There is no repository", "--repository");
    }

    public ValueTask DisposeAsync()
    {
        _home.Dispose();
        return ValueTask.CompletedTask;
    }

    private async Task<Outcome> RunAsync(params string[] arguments) => (await CommandLine.RunAsync(_home, ["repository", .. arguments, "-o", "json"])).Succeeds();

    private async Task<System.Text.Json.Nodes.JsonNode> VerifyAsync(params string[] more)
    {
        var result = (await RunAsync(["verify", "--data", "data", .. more])).Json["result"]!["verify"]!;
        Assert.Equal(0, (int)result["damages_total"]!);
        return result;
    }
}

using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ObjectStore;

/// <summary>An installation with one powered-off machine, "m".</summary>
internal sealed class Site(Installation installation) : IAsyncDisposable
{
    public Installation Installation { get; } = installation;

    /// <param name="disk">The machine's raw image.</param>
    /// <param name="repository">Folder or address; null: a folder of its own.</param>
    /// <param name="scrubs">False: nothing is read again while a backup is measured.</param>
    public static async Task<Site> StartAsync(string disk, string? repository, bool scrubs = true)
    {
        var installation = await Installation.CreateAsync(repository);
        try
        {
            if (!scrubs)
            {
                var path = Path.Combine(installation.Home, "controller.json");
                var settings = JsonNode.Parse(await File.ReadAllTextAsync(path))!;
                settings["scrub"] = new JsonObject { ["off"] = true };
                await File.WriteAllTextAsync(path, settings.ToJsonString());
            }
            await installation.Controller.StartAsync();
            var agent = await installation.EnrollAsync("host");
            agent.Add("m", Guid.NewGuid(), new InstalledImage(disk, LabDiskFormat.Raw, "disk"));
            await agent.Service.StartAsync();
            await installation.WaitForMachineAsync("m");
            return new Site(installation);
        }
        catch
        {
            await installation.DisposeAsync();
            throw;
        }
    }

    public static string PointOf(JsonElement backup) => backup.GetProperty("point_id").GetString()!;

    /// <summary>What the provider was asked since the controller's start.</summary>
    public async Task<(long Requests, long BytesSent, long StoredBytes)> AskAsync()
    {
        var status = (await Installation.RunAsync("repository", "status")).EnsureSuccess().Json;
        var traffic = status.GetProperty("traffic");
        return (traffic.GetProperty("requests").GetInt64(), traffic.GetProperty("bytes_sent").GetInt64(), status.GetProperty("stored_bytes").GetInt64());
    }

    /// <exception cref="RefutedException">A point that is listed does not restore, or to other bytes.</exception>
    public async Task RequireRestoresAsync(string point, string disk, string folder)
    {
        var restored = await Installation.RestoreDisksAsync(point, folder);
        if (!await LabDisk.ContentEqualsAsync(disk, LabDiskFormat.Raw, restored["disk"], LabDiskFormat.Raw))
        {
            throw new RefutedException($"recovery point {point} restores to other bytes than were backed up");
        }
        File.Delete(restored["disk"]);
    }

    /// <exception cref="RefutedException">Something is damaged.</exception>
    public async Task RequireSoundAsync()
    {
        var verified = await Installation.RunAsync("repository", "verify", "--full");
        if (verified.ExitCode != 0)
        {
            throw new RefutedException($"the repository is not sound: {verified.Stdout}{verified.Stderr}");
        }
        var spooled = Directory.GetFiles(Path.Combine(Installation.Home, "spool"), "*.spool");
        if (spooled.Length > 0)
        {
            throw new RefutedException($"{spooled.Length} files were left in the spool");
        }
    }

    public ValueTask DisposeAsync() => Installation.DisposeAsync();
}

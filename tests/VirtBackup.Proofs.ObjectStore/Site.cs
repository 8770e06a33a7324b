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
    public async Task<Asked> AskAsync()
    {
        var status = (await Installation.RunAsync("repository", "status")).EnsureSuccess().Json;
        var traffic = status.GetProperty("traffic");
        return new Asked(
            traffic.GetProperty("requests").GetInt64(), traffic.GetProperty("writes").GetInt64(), traffic.GetProperty("reads").GetInt64(), traffic.GetProperty("lease").GetInt64(),
            status.GetProperty("packs").GetInt64(), status.GetProperty("stored_bytes").GetInt64());
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

/// <param name="Requests">All of them.</param>
/// <param name="Writes">Of these, the ones that store something.</param>
/// <param name="Reads">Of these, the ones that read or look for an object.</param>
/// <param name="Lease">Of these, the ones that keep the owner's lease: they come with time, whatever is done.</param>
/// <param name="Packs">In the repository.</param>
/// <param name="StoredBytes">What they hold.</param>
internal readonly record struct Asked(long Requests, long Writes, long Reads, long Lease, long Packs, long StoredBytes)
{
    public Asked Since(in Asked earlier) => new(
        Requests - earlier.Requests, Writes - earlier.Writes, Reads - earlier.Reads, Lease - earlier.Lease, Packs - earlier.Packs, StoredBytes - earlier.StoredBytes);
}

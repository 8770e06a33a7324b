using System.Text.Json;
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
    public static async Task<Site> StartAsync(string disk, string? repository)
    {
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(disk, LabDiskFormat.Raw, "disk")), repository);
        await installation.WaitForMachineAsync("m");
        return new Site(installation);
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
        var spooled = Directory.GetFiles(Path.Combine(Installation.Home, "spool"));
        if (spooled.Length > 0)
        {
            throw new RefutedException($"{spooled.Length} files were left in the spool");
        }
    }

    public ValueTask DisposeAsync() => Installation.DisposeAsync();
}

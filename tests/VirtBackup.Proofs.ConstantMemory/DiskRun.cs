using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>
/// One disk in a fresh installation: backed up in full, backed up again unchanged, and restored, each watched. Before, both
/// services do the same with another disk, which is always as large as the small one: their code is compiled and their
/// buffers are made, so that what is watched differs by the disk alone.
/// </summary>
internal sealed class DiskRun(DiskContent content, DiskContent warmUp, string folder, string? sabotage, CancellationToken cancellationToken)
{
    private const int UnreachableExitCode = 3;
    private const int StartTriesMax = 5;
    private readonly DiskSize _size = content.Size;

    /// <returns>The peaks of each work.</returns>
    /// <exception cref="RefutedException">Less was done than the works claim.</exception>
    public async Task<IReadOnlyList<WorkPeaks>> RunAsync()
    {
        Directory.CreateDirectory(folder);
        try
        {
            var images = new[] { warmUp, content }.Select(disk => new InstalledImage(Path.Combine(folder, $"{disk.Size.Name}.raw"), LabDiskFormat.Raw, "disk")).ToArray();
            var (installation, agent) = await Installation.StartAsync(
                (_, agent) =>
                {
                    agent.Add(warmUp.Size.Name, Guid.NewGuid(), images[0]);
                    agent.Add(_size.Name, Guid.NewGuid(), images[1]);
                },
                Path.Combine(folder, "repository"));
            await using var _ = installation;
            await installation.WaitForMachineAsync(_size.Name);
            var watch = new PeakWatch(new ServiceMeter("the agent", agent.Service), new ServiceMeter("the controller", installation.Controller));
            async Task BeforeReadingAsync()
            {
                if (sabotage == Sabotages.LosePeak) await agent.Service.RestartAsync();
            }
            await WorkAsync(installation, watch, warmUp, images[0].Path, static () => Task.CompletedTask);
            return await WorkAsync(installation, watch, content, images[1].Path, BeforeReadingAsync);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>
    /// Makes the disk's image and does the three works. The image is deleted before the restore: the restored disk is
    /// compared with the seed's content.
    /// </summary>
    private async Task<IReadOnlyList<WorkPeaks>> WorkAsync(Installation installation, PeakWatch watch, DiskContent disk, string image, Func<Task> beforeReading)
    {
        var size = disk.Size;
        var all = new List<WorkPeaks>();
        async Task<JsonElement> DoAsync(string name, params string[] command)
        {
            var result = default(JsonElement);
            all.Add(await watch.MeasureAsync(name, async () => result = await FinishAsync(installation, command), beforeReading));
            Report(size, all[^1]);
            return result;
        }

        var isSkipped = sabotage == Sabotages.SkipContent && disk == content;
        ContentImage.Write(image, disk, disk.Extents.Where((_, i) => !isSkipped || i % 2 == 0), cancellationToken);
        var heldBefore = BytesIn(installation.Repository);

        // Half of every page is chance: less than that cannot hold it.
        var full = (await DoAsync("full", "backup", "run", size.Name)).GetProperty("backup");
        RequireAtLeast(size, "the full backup read", full.GetProperty("read_bytes").GetInt64(), size.ContentBytes);
        RequireAtLeast(size, "the full backup stored", full.GetProperty("stored_bytes").GetInt64(), size.ContentBytes / 2);
        RequireAtLeast(size, "the repository grew by", BytesIn(installation.Repository) - heldBefore, size.ContentBytes / 2);

        var unchanged = (await DoAsync("unchanged", "backup", "run", size.Name)).GetProperty("backup");
        RequireAtLeast(size, "the unchanged backup read", unchanged.GetProperty("read_bytes").GetInt64(), size.ContentBytes);
        if (unchanged.GetProperty("base_point_id").GetString() != full.GetProperty("point_id").GetString()) throw new RefutedException("the second backup is not an increment of the first");

        File.Delete(image);
        var target = Path.Combine(folder, "restored");
        var restore = (await DoAsync("restore", "restore", "run", unchanged.GetProperty("point_id").GetString()!, "--folder", target, "--format", "raw", "--no-start")).GetProperty("restore");
        RequireAtLeast(size, "the restore wrote", restore.GetProperty("bytes_written").GetInt64(), size.ContentBytes);
        ContentImage.RequireEqual(Directory.GetFiles(target, "*.raw").Single(), disk, cancellationToken);
        Directory.Delete(target, recursive: true);
        return all;
    }

    /// <summary>Starts a job and stays with it as long as it takes.</summary>
    private async Task<JsonElement> FinishAsync(Installation installation, string[] command)
    {
        var started = await installation.RunAsync([.. command, "--detach"]);
        for (var tries = 1; started.ExitCode == UnreachableExitCode && tries < StartTriesMax; tries++)
        {
            started = await installation.RunAsync([.. command, "--detach"]);
        }
        var job = started.Json.GetProperty("job_id").GetString()!;
        while (true)
        {
            try
            {
                var followed = await installation.FollowAsync(job).WaitAsync(cancellationToken);
                // A command that loses the controller on a busy machine says nothing about the job.
                if (followed.ExitCode != UnreachableExitCode || !installation.Controller.IsRunning) return followed.Json.GetProperty("result");
            }
            catch (TimeoutException)
            {
                // The command's limit, not the job's.
            }
        }
    }

    private static void Report(DiskSize size, WorkPeaks peaks)
    {
        var helpers = string.Concat(peaks.Helpers.OrderBy(helper => helper.Key, StringComparer.Ordinal).Select(helper => $", {helper.Key} {Memory.MiB(helper.Value)}"));
        Console.WriteLine($"  {size.Name} {peaks.Work}: agent {Memory.MiB(peaks.Agent)}, controller {Memory.MiB(peaks.Controller)}{helpers}; {peaks.Duration.TotalSeconds:0.0} s");
    }

    private static void RequireAtLeast(DiskSize size, string what, long bytes, long least)
    {
        if (bytes < least) throw new RefutedException($"{what} {bytes} bytes of the {size}; at least {least} are needed for the claim");
    }

    private static long BytesIn(string folder) => new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).Sum(file => file.Length);
}

using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.StoredSize;

/// <summary>The sequence through a real agent and controller.</summary>
internal static class VirtBackupRun
{
    /// <param name="steps">The sequence.</param>
    /// <param name="chunks">How disks are cut; null: by default.</param>
    /// <param name="isOneForEach">Each machine gets a repository of its own; the sizes are added up.</param>
    /// <param name="isCompared">Every machine's newest point is restored and compared.</param>
    /// <param name="cancellationToken">Stops between steps.</param>
    /// <returns>Bytes of the repository's files after each step.</returns>
    public static async Task<IReadOnlyList<long>> RunAsync(IReadOnlyList<Step> steps, string? chunks, bool isOneForEach, bool isCompared, CancellationToken cancellationToken)
    {
        if (!isOneForEach)
        {
            return await RunOneAsync(steps, chunks, isCompared, cancellationToken);
        }
        var stored = new List<long>();
        foreach (var machine in steps.GroupBy(static step => step.Machine))
        {
            var before = stored.LastOrDefault();
            stored.AddRange((await RunOneAsync([.. machine], chunks, isCompared, cancellationToken)).Select(bytes => before + bytes));
        }
        return stored;
    }

    private static async Task<IReadOnlyList<long>> RunOneAsync(IReadOnlyList<Step> steps, string? chunks, bool isCompared, CancellationToken cancellationToken)
    {
        var (installation, _) = await Installation.StartAsync((installation, agent) =>
        {
            agent.Chunks = chunks;
            foreach (var machine in steps.Select(static step => step.Machine).Distinct())
            {
                // The disk of the first day is there when the agent looks for the first time.
                Point(DiskOf(installation, machine), steps.First(step => step.Machine == machine).Image);
                agent.Add($"m{machine}", Guid.NewGuid(), new InstalledImage(DiskOf(installation, machine), LabDiskFormat.Raw, "disk"));
            }
        });
        await using var _ = installation;
        foreach (var machine in steps.Select(static step => step.Machine).Distinct())
        {
            await installation.WaitForMachineAsync($"m{machine}");
        }
        var stored = new List<long>();
        foreach (var step in steps)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Point(DiskOf(installation, step.Machine), step.Image);
            await installation.BackUpAsync($"m{step.Machine}");
            stored.Add(Folders.Measure(installation.Repository));
        }
        if (isCompared)
        {
            foreach (var step in steps.GroupBy(static step => step.Machine).Select(static machine => machine.Last()))
            {
                var restored = (await installation.RestoreDisksAsync($"m{step.Machine}@latest", $"restored-{step.Machine}")).Single().Value;
                if ((await Proc.RunAsync("cmp", [restored, step.Image], TimeSpan.FromMinutes(10), cancellationToken: cancellationToken)).ExitCode != 0)
                {
                    throw new RefutedException($"'{step.Name}' was restored with other bytes");
                }
                Directory.Delete(Path.GetDirectoryName(restored)!, recursive: true);
            }
        }
        return stored;
    }

    private static string DiskOf(Installation installation, int machine) => installation.File($"m{machine}.raw");

    /// <summary>Makes the disk be that image, at once.</summary>
    private static void Point(string disk, string image)
    {
        File.CreateSymbolicLink(disk + ".new", image);
        File.Move(disk + ".new", disk, overwrite: true);
    }
}

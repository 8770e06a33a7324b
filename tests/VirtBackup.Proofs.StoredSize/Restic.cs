using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.StoredSize;

/// <summary>The same sequence in restic, with its defaults.</summary>
internal static class Restic
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(20);

    /// <returns>Bytes of the repository's files after each step.</returns>
    public static async Task<IReadOnlyList<long>> RunAsync(IReadOnlyList<Step> steps, string folder, CancellationToken cancellationToken)
    {
        var repository = Path.Combine(folder, "restic");
        var environment = new Dictionary<string, string?> { ["RESTIC_PASSWORD"] = "stored-size", ["RESTIC_CACHE_DIR"] = Path.Combine(folder, "restic-cache") };
        await RunAsync("init");
        var stored = new List<long>();
        foreach (var step in steps)
        {
            await RunAsync("backup", "--force", step.Image);
            stored.Add(Folders.Measure(repository));
        }
        Directory.Delete(repository, recursive: true);
        return stored;

        async Task RunAsync(params string[] arguments) =>
            (await Proc.RunAsync("restic", ["-q", "--repo", repository, .. arguments], Limit, environment: environment, cancellationToken: cancellationToken)).EnsureSuccess();
    }
}

using VirtBackup.Database;
using VirtBackup.Repository.Index;
using VirtBackup.Testing.Installations;

namespace VirtBackup.Proofs.KillController;

/// <summary>Faults planted in what a killed controller left, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string LowerCount = "lower-count";
    public const string LoseManifest = "lose-manifest";

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (LowerCount, "a reference to a chunk is not counted, as if a transaction were torn"),
        (LoseManifest, "the manifest of a committed recovery point is deleted"),
    ];

    public static async Task PlantAsync(string? sabotage, Installation installation, string point)
    {
        switch (sabotage)
        {
            case LowerCount:
                await using (var index = SqliteDatabase.Open(Path.Combine(installation.Home, "index.db"), RepositoryIndex.Schema))
                {
                    await index.WriteAsync(
                        static connection => connection.Execute("UPDATE object SET count = count - 1 WHERE number = (SELECT min(number) FROM object WHERE kind = 1 AND count > 0)"), CancellationToken.None);
                }
                break;
            case LoseManifest:
                Directory.EnumerateFiles(installation.Repository, $"{point}.vbm", SearchOption.AllDirectories).ToList().ForEach(File.Delete);
                break;
        }
    }
}

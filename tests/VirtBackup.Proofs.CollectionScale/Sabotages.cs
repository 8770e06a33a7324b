using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Repository;
using VirtBackup.Repository.Index;

namespace VirtBackup.Proofs.CollectionScale;

/// <summary>Faults planted around the product, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string DropIndex = "drop-index";
    public const string HoldIds = "hold-ids";
    public const string HoldPoints = "hold-points";
    public const string MoreChanges = "more-changes";

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (DropIndex, "drops the index that keeps objects without reference apart"),
        (HoldIds, "keeps the id of every object in memory while a point is deleted"),
        (HoldPoints, "keeps the deleted points in use, so that nothing is freed at all"),
        (MoreChanges, "lets the points of the larger repository change a quarter more"),
    ];

    public static HistoryShape Change(string? sabotage, HistoryShape large) =>
        sabotage == MoreChanges ? large with { HotLeaves = HistoryShape.UsualHotLeaves * 5 / 4 } : large;

    public static async Task SpoilIndexAsync(string? sabotage, IDatabase index)
    {
        if (sabotage == DropIndex)
        {
            await index.WriteAsync(static connection => connection.Execute("DROP INDEX IF EXISTS object_without_reference"), CancellationToken.None);
        }
    }

    public static void Hold(string? sabotage, BackupRepository repository, Victim victim)
    {
        if (sabotage == HoldPoints)
        {
            // Never disposed.
            _ = repository.HoldPoint(Fleet.Point(victim.Machine, victim.Point));
        }
    }

    /// <summary>Memory that is given back when the result is disposed.</summary>
    public static async Task<IDisposable?> HoardAsync(string? sabotage, string folder)
    {
        if (sabotage != HoldIds)
        {
            return null;
        }
        // Through a connection of its own, so that only the memory tells.
        var options = new SqliteOptions { Exclusive = false, Readers = 1 };
        await using var index = SqliteDatabase.Open(Path.Combine(folder, RepositoryGenerator.IndexFile), RepositoryIndex.Schema, options);
        return new Hoard(await index.ReadAsync(
            static connection =>
            {
                var ids = new HashSet<Id32>();
                using var list = connection.Prepare("SELECT id FROM object");
                while (list.Step())
                {
                    ids.Add(list.GetId32(0));
                }
                return ids;
            },
            CancellationToken.None));
    }

    private sealed class Hoard(HashSet<Id32> ids) : IDisposable
    {
        public void Dispose() => ids.Clear();
    }
}

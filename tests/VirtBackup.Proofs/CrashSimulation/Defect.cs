using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>Defects that can be planted around the product, to show that they are found.</summary>
internal static class Defect
{
    public static readonly (string Name, string What)[] All =
    [
        ("skip-file-sync", "the store does not flush files"),
        ("skip-folder-sync", "the store does not flush folders"),
        ("tear-on-publish", "the store gives an object its name before all of it is written"),
        ("ack-before-durable", "the controller's word of durability comes before the store's"),
        ("drop-count", "one count in forty of a reference is dropped"),
        ("early-collector", "the collector's clock is eight days ahead"),
        ("omit-manifest", "the store does not list one of the manifests"),
        ("lose-pack", "a pack is deleted on whose record a commit has just relied"),
        ("peer-drop-pack", "a peer's store says that it holds a pack, and does not"),
        ("peer-skip-chunk", "a peer takes chunks for present that are not, and its commits do not look"),
    ];

    private const int DroppedOneIn = 40;
    private const int SkippedOneIn = 3;

    public static SimulatedStoreOptions OptionsOf(string? defect, Power power) => new()
    {
        Inject = power.Before,
        SkipFileSync = defect == "skip-file-sync",
        SkipFolderSync = defect == "skip-folder-sync",
        TearOnPublish = defect == "tear-on-publish",
    };

    public static TimeSpan CollectorAhead(string? defect) => defect == "early-collector" ? TimeSpan.FromDays(8) : TimeSpan.Zero;

    public static IObjectStore Of(string? defect, IObjectStore store) => defect is "omit-manifest" or "lose-pack"
        ? new FaithlessStore(store) { OmitsManifest = defect == "omit-manifest", LosesPack = defect == "lose-pack" }
        : store;

    public static IObjectStore OfPeer(string? defect, IObjectStore store) => defect == "peer-drop-pack" ? new FaithlessStore(store) { DropsPacks = true } : store;

    public static Func<IDatabase, IDatabase> OfPeerIndex(string? defect)
    {
        var looks = 0;
        return defect != "peer-skip-chunk" ? static index => index : index => new AlteredDatabase(index, sql =>
            sql.StartsWith("SELECT number, condemned_ms FROM object WHERE id = ?1 AND kind = 1 AND scope = ?2 AND raw_length = ?3", StringComparison.Ordinal) && ++looks % SkippedOneIn == 0
                ? "SELECT number, condemned_ms FROM object WHERE kind = 1 AND pack > 0 AND ?1 IS NOT NULL AND ?2 IS NOT NULL AND ?3 IS NOT NULL LIMIT 1"
                : sql.StartsWith("UPDATE object SET count = count + 1, condemned_ms = 0 WHERE id = ?1 AND kind = 1 RETURNING", StringComparison.Ordinal)
                    ? sql.Replace("WHERE id = ?1 AND kind = 1", "WHERE kind = 1 AND id = coalesce((SELECT id FROM object WHERE id = ?1 AND kind = 1 LIMIT 1), (SELECT id FROM object WHERE kind = 1 LIMIT 1))", StringComparison.Ordinal)
                    : sql);
    }

    public static Func<IDatabase, IDatabase> OfIndex(string? defect)
    {
        var counts = 0;
        return defect switch
        {
            "drop-count" => index => new AlteredDatabase(index, sql =>
                sql.StartsWith("UPDATE object SET count = count + 1", StringComparison.Ordinal) && ++counts % DroppedOneIn == 0
                    ? sql.Replace("count + 1", "count + 0", StringComparison.Ordinal)
                    : sql),
            _ => static index => index,
        };
    }
}

using VirtBackup.Catalog.Replication;
using VirtBackup.Core;

namespace VirtBackup.Controller.Copies;

/// <summary>A place where points can be.</summary>
/// <param name="Kind">Of storage; empty: a peer that did not tell.</param>
internal sealed record PlaceInfo(string Name, string Kind, bool OffSite, bool IsPeer);

/// <summary>All places where points can be: the repository, copy stores and peers.</summary>
internal sealed class KnownPlaces
{
    private readonly Dictionary<string, PlaceInfo> _stores;
    private readonly Dictionary<string, PlaceInfo> _peers;

    private KnownPlaces(PlaceInfo repository, IEnumerable<PlaceInfo> stores, IEnumerable<PlaceInfo> peers, IReadOnlyList<PeerRow> peerRows)
    {
        Repository = repository;
        _stores = stores.ToDictionary(static place => place.Name, StringComparer.Ordinal);
        _peers = peers.ToDictionary(static place => place.Name, StringComparer.Ordinal);
        PeerRows = peerRows;
    }

    public PlaceInfo Repository { get; }

    /// <summary>Peers that are not revoked.</summary>
    public IReadOnlyList<PeerRow> PeerRows { get; }

    public IEnumerable<string> Stores => _stores.Keys;

    public static async ValueTask<KnownPlaces> ReadAsync(CopyParts parts, CancellationToken cancellationToken)
    {
        var kinds = await parts.Catalog.Receipts.ListKindsAsync(cancellationToken);
        var peers = (await parts.Catalog.Peers.ListAsync(cancellationToken)).FindAll(static peer => peer.RevokedMs is null);
        return new KnownPlaces(
            new PlaceInfo(CopyNames.Repository, KindOf(parts.Identity.RepositoryLocation), OffSite: false, IsPeer: false),
            (await parts.Catalog.Copies.ListStoresAsync(cancellationToken)).Select(static row => new PlaceInfo(row.Name, KindOf(row.Location), row.OffSite, IsPeer: false)),
            peers.Select(peer => new PlaceInfo(peer.Name, kinds.GetValueOrDefault(peer.Name, ""), OffSite: true, IsPeer: true)),
            peers);
    }

    public PlaceInfo? FindStore(string name) => _stores.GetValueOrDefault(name);

    public PlaceInfo? FindPeer(string name) => _peers.GetValueOrDefault(name);

    /// <summary>The kind of storage at a location: folder, s3 or azure.</summary>
    public static string KindOf(string location) => StoreLocation.Parse(location).Kind switch
    {
        StoreKind.S3 => "s3",
        StoreKind.Azure => "azure",
        _ => "folder",
    };
}

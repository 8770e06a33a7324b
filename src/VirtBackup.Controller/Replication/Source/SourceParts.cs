using VirtBackup.Core;
using VirtBackup.Repository;

namespace VirtBackup.Controller.Replication.Source;

/// <summary>What answering works with.</summary>
/// <param name="NoteHelloAsync">Told which repository and version a peer says that it has.</param>
internal sealed record SourceParts(
    BackupRepository Repository, IObjectStore Store, ControllerIdentity Identity, PeerAccess Access, PointListings Listings, Func<string, Id16, string, CancellationToken, ValueTask> NoteHelloAsync);

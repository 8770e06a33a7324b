using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Repository;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Copies;

/// <summary>What copying works with; all of it is its owner's.</summary>
public sealed record CopyParts
{
    public required ControllerIdentity Identity { get; init; }

    public required BackupRepository Repository { get; init; }

    /// <summary>The repository's objects.</summary>
    public required IObjectStore Store { get; init; }

    public required PointLocks Locks { get; init; }

    public required Keyholder Keyholder { get; init; }

    public required CatalogDatabase Catalog { get; init; }

    /// <summary>Null: this controller has no second places.</summary>
    public ICopyPlaces? Places { get; init; }

    public required ITrustedClock Clock { get; init; }

    public required JobService Jobs { get; init; }

    public required ScrubSettings Scrub { get; init; }

    /// <summary>Where sound copies of damaged records are looked for beside the repository and its copy stores.</summary>
    public IReadOnlyList<IRecordSource> Elsewhere { get; init; } = [];

    public required IEntropy Entropy { get; init; }

    public required TimeProvider Time { get; init; }
}

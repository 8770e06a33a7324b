using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Repository;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Scrubbing;

/// <summary>What the scrub works with; all of it is its owner's.</summary>
public sealed record ScrubParts
{
    public required BackupRepository Repository { get; init; }
    public required IObjectStore Store { get; init; }
    public required Keyholder Keyholder { get; init; }
    public required CatalogDatabase Catalog { get; init; }
    public required DamageLedger Ledger { get; init; }
    public required JobService Jobs { get; init; }
    public required ScrubSettings Settings { get; init; }

    /// <summary>Where copies of damaged records are looked for.</summary>
    public IReadOnlyList<IRecordSource> Sources { get; init; } = [];

    public required TimeProvider Time { get; init; }
}

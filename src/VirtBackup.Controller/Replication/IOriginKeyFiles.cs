using VirtBackup.Core;

namespace VirtBackup.Controller.Replication;

/// <summary>
/// The keys of other repositories that were given to this controller, kept as its own are: private files of the host,
/// <c>secrets/escrow.REPOSITORY</c> in the controller's home. Safe for concurrent use.
/// </summary>
public interface IOriginKeyFiles
{
    /// <summary>All of them, as they were saved; the caller wipes the bytes.</summary>
    IReadOnlyList<(Id16 Repository, byte[] Escrow)> ReadAll();

    /// <summary>Durable when it returns. Replaces what there was.</summary>
    void Save(Id16 repository, ReadOnlySpan<byte> escrow);
}

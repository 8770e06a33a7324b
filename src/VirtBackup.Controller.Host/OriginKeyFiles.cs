using VirtBackup.Controller.Replication;
using VirtBackup.Core;
using VirtBackup.Identity;

namespace VirtBackup.Controller.Host;

/// <summary>The keys of other repositories in the controller's home.</summary>
internal sealed class OriginKeyFiles(ControllerHome home) : IOriginKeyFiles
{
    public IReadOnlyList<(Id16 Repository, byte[] Escrow)> ReadAll() => home.ReadOriginEscrows();

    public void Save(Id16 repository, ReadOnlySpan<byte> escrow) => home.WriteOriginEscrow(repository, escrow);
}

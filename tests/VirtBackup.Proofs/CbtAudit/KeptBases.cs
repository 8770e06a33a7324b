using VirtBackup.Agent.State;
using VirtBackup.Core;

namespace VirtBackup.Proofs.CbtAudit;

/// <summary>An agent's base records, which can be kept as they are while runs are broken off.</summary>
/// <param name="standStill">Planted defect: no rotation ever moves.</param>
internal sealed class KeptBases(IBaseStore inner, bool standStill) : IBaseStore
{
    private readonly Dictionary<Id16, AuditRotation> _first = [];

    public bool IsFrozen { get; set; }

    public ValueTask<IReadOnlyList<BaseRecord>> LoadAsync(Id16 machine, CancellationToken cancellationToken) => inner.LoadAsync(machine, cancellationToken);

    public ValueTask SaveAsync(Id16 machine, IReadOnlyList<BaseRecord> records, CancellationToken cancellationToken) =>
        IsFrozen ? ValueTask.CompletedTask : inner.SaveAsync(machine, standStill ? [.. records.Select(Halt)] : records, cancellationToken);

    private BaseRecord Halt(BaseRecord record) => record with { Disks = [.. record.Disks.Select(Halt)] };

    private BaseDisk Halt(BaseDisk disk)
    {
        if (disk.Rotation is not { } rotation)
        {
            return disk;
        }
        _first.TryAdd(disk.Disk, rotation with { Position = 0, Runs = 0 });
        return disk with { Rotation = _first[disk.Disk] };
    }
}

using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Repository.Commits;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Store;

/// <summary>
/// Unmasks every entry of a new leaf and requires that the secret derives the entry's id: an agent cannot commit a map
/// that could never be restored, or that names another's chunks without having had them.
/// </summary>
internal sealed class LeafInspector(OpenedKeys keys) : ILeafInspector
{
    public async ValueTask InspectAsync(Id16 vm, MapLeaf leaf, CancellationToken cancellationToken)
    {
        // Opened in advance: an entry is checked in a microsecond, a key takes a read and an agreement.
        for (var i = 0; i < leaf.EpochCount; i++)
        {
            _ = await keys.GetAsync(vm, leaf.EpochAt(i), cancellationToken);
        }
        for (var i = 0; i < leaf.Count; i++)
        {
            var entry = leaf[i];
            if (!entry.IsZero)
            {
                var key = await keys.GetAsync(vm, entry.EpochId, cancellationToken);
                _ = key.Unmask(entry.Id, entry.MaskedSecret);
            }
        }
    }
}

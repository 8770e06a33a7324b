using System.Collections.Concurrent;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>VM keys that were opened for one operation; wiped when it is over. Safe for concurrent use.</summary>
public sealed class OpenedKeys(Keyholder keyholder) : IDisposable
{
    private readonly ConcurrentDictionary<(Id16 Vm, Id16 Epoch), VmKey> _keys = new();

    /// <summary>The VM's key of an epoch; it stays this object's.</summary>
    /// <exception cref="FaultException">The key object is missing, damaged, or sealed to another key.</exception>
    public async ValueTask<VmKey> GetAsync(Id16 vm, Id16 epoch, CancellationToken cancellationToken)
    {
        if (_keys.TryGetValue((vm, epoch), out var known))
        {
            return known;
        }
        var opened = await keyholder.OpenAsync(vm, epoch, cancellationToken);
        var kept = _keys.GetOrAdd((vm, epoch), opened);
        if (!ReferenceEquals(kept, opened))
        {
            opened.Dispose();
        }
        return kept;
    }

    public void Dispose()
    {
        foreach (var key in _keys.Values)
        {
            key.Dispose();
        }
        _keys.Clear();
    }
}

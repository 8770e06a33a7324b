using VirtBackup.Core;
using VirtBackup.Sealing;

namespace VirtBackup.Agent.Capture;

/// <summary>
/// The VM keys of this process: one per machine, never written anywhere but sealed, renewed after seven days. Safe for
/// concurrent use.
/// </summary>
public sealed class VmKeyRing(TimeProvider time, IEntropy entropy) : IDisposable
{
    private static readonly TimeSpan Lifetime = TimeSpan.FromDays(7);

    private readonly Lock _gate = new();
    private readonly Dictionary<Id16, (VmKey Key, long Born)> _keys = [];

    /// <summary>The machine's present key. It stays the ring's.</summary>
    public VmKey Get(Id16 machine)
    {
        lock (_gate)
        {
            // A key that was replaced may still serve a run: it is left to the collector instead of being wiped under it.
            if (!_keys.TryGetValue(machine, out var entry) || time.GetElapsedTime(entry.Born) >= Lifetime)
            {
                _keys[machine] = entry = (VmKey.Create(entropy), time.GetTimestamp());
            }
            return entry.Key;
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            foreach (var (key, _) in _keys.Values)
            {
                key.Dispose();
            }
            _keys.Clear();
        }
    }
}

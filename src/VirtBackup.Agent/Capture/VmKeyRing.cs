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
    private readonly Dictionary<Id16, Entry> _entries = [];

    /// <summary>The machine's present key. It stays the ring's.</summary>
    public VmKey Get(Id16 machine)
    {
        lock (_gate)
        {
            return EntryOf(machine).Key;
        }
    }

    /// <summary>
    /// <paramref name="key"/> as a key object for <paramref name="recipient"/>. Sealing is random and a key object is
    /// written once: every run of the process must offer the same bytes.
    /// </summary>
    /// <param name="key">From <see cref="Get"/>.</param>
    public ReadOnlyMemory<byte> Seal(VmKey key, Id16 repository, Id16 machine, AgreementPublicKey recipient)
    {
        ArgumentNullException.ThrowIfNull(key);
        ArgumentNullException.ThrowIfNull(recipient);
        lock (_gate)
        {
            var entry = EntryOf(machine);
            if (entry.Key.EpochId != key.EpochId)
            {
                // Renewed since the run began; the run's key is sealed once more, for this run only.
                return KeySealing.Seal(key, repository, machine, recipient, entropy).ToBytes();
            }
            if (!entry.Sealed.TryGetValue((repository, recipient.Id), out var bytes))
            {
                entry.Sealed.Add((repository, recipient.Id), bytes = KeySealing.Seal(key, repository, machine, recipient, entropy).ToBytes());
            }
            return bytes;
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            foreach (var entry in _entries.Values)
            {
                entry.Key.Dispose();
            }
            _entries.Clear();
        }
    }

    private Entry EntryOf(Id16 machine)
    {
        // A key that was replaced may still serve a run: it is left to the collector instead of being wiped under it.
        if (!_entries.TryGetValue(machine, out var entry) || time.GetElapsedTime(entry.Born) >= Lifetime)
        {
            _entries[machine] = entry = new Entry(VmKey.Create(entropy), time.GetTimestamp(), []);
        }
        return entry;
    }

    private sealed record Entry(VmKey Key, long Born, Dictionary<(Id16 Repository, Id16 Recipient), byte[]> Sealed);
}

using VirtBackup.Catalog.Copies;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Copies;

/// <summary>A policy, ready to be asked.</summary>
internal sealed class StoredPolicy
{
    private const long DayMs = 24L * 3600 * 1000;
    private const long MinuteMs = 60_000;

    private readonly HashSet<Id16> _machines;

    public StoredPolicy(CopyPolicyRow row)
    {
        Policy = CopyPolicy.Parser.ParseFrom(row.Policy);
        ChangedMs = row.ChangedMs;
        _machines = Policy.Vms.Select(static machine => Id16.Parse(machine.VmId)).ToHashSet();
    }

    public CopyPolicy Policy { get; }

    public long ChangedMs { get; }

    /// <summary>The machines that it names; none: all that are backed up here.</summary>
    public IReadOnlySet<Id16> Machines => _machines;

    /// <summary>Whether it is about a recovery point.</summary>
    /// <param name="isReplica">It came from a peer: a policy for all machines is not about it.</param>
    public bool IsAbout(Id16 vm, bool isReplica) => Policy.AllVms ? !isReplica : _machines.Contains(vm);

    /// <summary>Whether points are to be in that copy store.</summary>
    public bool WantsAt(string store) => Policy.At.Count == 0 || Policy.At.Contains(store);

    /// <summary>Until when a point is to be locked in that copy store, Unix milliseconds; 0: not.</summary>
    public long LockedUntil(string store, long createdMs) =>
        WantsAt(store) && (Policy.LockedAt.Length == 0 || Policy.LockedAt == store) ? LockedUntil(createdMs) : 0;

    /// <summary>Until when a point is to be locked where the policy wants locks, Unix milliseconds; 0: nowhere.</summary>
    public long LockedUntil(long createdMs) => Policy.LockDays == 0 ? 0 : createdMs + (Policy.LockDays * DayMs);

    /// <summary>By when a point is to be everywhere, Unix milliseconds. A policy that changed gets its time, too.</summary>
    public long DueMs(long createdMs) => Math.Max(createdMs, ChangedMs) + (Policy.WithinMinutes * MinuteMs);
}

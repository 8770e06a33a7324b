using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Copies;

/// <summary>Judges whether a machine's points are where a policy wants them. Pure.</summary>
internal sealed class PolicyJudgement(StoredPolicy policy, KnownPlaces places, MachineCopies machine, long nowMs)
{
    private const int ReasonsMax = 20;
    private const int PlacesMax = 300;

    /// <param name="points">Those of the machine that the policy is about, newest first.</param>
    public CopyStatus Judge(IReadOnlyList<CopiedPoint> points)
    {
        var wanted = policy.Policy;
        var status = new CopyStatus
        {
            Policy = wanted.Name, VmId = machine.Vm.ToString(), VmName = machine.Name, CopiesWanted = wanted.Copies, MediaWanted = wanted.Media, OffSiteWanted = wanted.OffSite,
            LockWanted = wanted.LockDays > 0, Points = (ulong)points.Count, State = points.Count == 0 ? CopyState.NoPoint : CopyState.Met,
        };
        if (points.Count > 0)
        {
            Describe(status, points[0]);
        }
        // From the oldest: the one that waits longest says why.
        foreach (var point in points.Reverse())
        {
            var reasons = FindReasons(point);
            if (reasons.Count == 0)
            {
                continue;
            }
            var due = policy.DueMs(point.Row.CreatedMs);
            var isOverdue = due <= nowMs;
            if (isOverdue)
            {
                status.PointsOverdue++;
                status.SinceTime ??= WireText.ToTimestamp(due);
            }
            else
            {
                status.PointsPending++;
            }
            if (status.Reasons.Count == 0)
            {
                status.Reasons.Add(reasons.Take(ReasonsMax));
            }
            status.State = isOverdue || status.State == CopyState.Overdue ? CopyState.Overdue : CopyState.Pending;
        }
        return status;
    }

    private void Describe(CopyStatus status, CopiedPoint newest)
    {
        status.PointId = newest.Row.PointId.ToString();
        status.PointTime = WireText.ToTimestamp(newest.Row.CreatedMs);
        status.Copies = (uint)newest.Places.Count;
        status.Media = (uint)MediaOf(newest);
        status.OffSite = (uint)OffSiteOf(newest);
        status.Places.Add(newest.Places.Take(PlacesMax).Select(at => new Protocol.Admin.V1.CopyPlace
        {
            Name = at.Place.Name, Kind = at.Place.Kind, OffSite = at.Place.OffSite, Peer = at.Place.IsPeer, LockedUntilTime = at.LockedUntilMs > nowMs ? WireText.ToTimestamp(at.LockedUntilMs) : null,
        }));
        var locked = LockPlaces().Select(name => newest.Places.FirstOrDefault(at => at.Place.Name == name).LockedUntilMs).DefaultIfEmpty(0).Min();
        status.LockedUntilTime = policy.Policy.LockDays > 0 && locked > nowMs ? WireText.ToTimestamp(locked) : null;
    }

    private static int MediaOf(CopiedPoint point) => point.Places.Select(static at => at.Place.Kind).Where(static kind => kind.Length > 0).Distinct(StringComparer.Ordinal).Count();

    private static int OffSiteOf(CopiedPoint point) => point.Places.Count(static at => at.Place.OffSite);

    /// <summary>Where points are to be locked.</summary>
    private IEnumerable<string> LockPlaces() =>
        policy.Policy.LockedAt.Length > 0 ? [policy.Policy.LockedAt] : policy.Policy.At.Count == 0 ? places.Stores : policy.Policy.At.Where(name => places.FindStore(name) is not null);

    /// <summary>Where each point is to be.</summary>
    private IEnumerable<string> WantedPlaces() => policy.Policy.At.Count > 0 ? policy.Policy.At : places.Stores;

    /// <summary>What is not so, for people; none: everything is as the policy wants it.</summary>
    private List<string> FindReasons(CopiedPoint point)
    {
        var wanted = policy.Policy;
        var reasons = new List<string>();
        if (!point.Places.Any(at => at.Place == places.Repository))
        {
            reasons.Add("damaged in the repository");
        }
        foreach (var name in WantedPlaces())
        {
            if (!point.Places.Any(at => at.Place.Name == name))
            {
                reasons.Add(DescribeAbsence(name));
            }
        }
        if (point.Places.Count < wanted.Copies)
        {
            reasons.Add(Few(point.Places.Count, wanted.Copies, "copy", "copies"));
        }
        if (MediaOf(point) is var media && media < wanted.Media)
        {
            reasons.Add(Few(media, wanted.Media, "kind of storage", "kinds of storage"));
        }
        if (OffSiteOf(point) is var offSite && offSite < wanted.OffSite)
        {
            reasons.Add(Few(offSite, wanted.OffSite, "off-site copy", "off-site copies") + WhyNoPeer());
        }
        AddLockReasons(point, reasons);
        return reasons;
    }

    private void AddLockReasons(CopiedPoint point, List<string> reasons)
    {
        if (policy.LockedUntil(point.Row.CreatedMs) is var untilMs && untilMs <= nowMs)
        {
            return;
        }
        var at = LockPlaces().ToList();
        if (at.Count == 0)
        {
            reasons.Add("not locked: there is no copy store");
        }
        foreach (var name in at)
        {
            var found = point.Places.FirstOrDefault(place => place.Place.Name == name);
            if (found.Place is null)
            {
                // Where it is wanted, that is said already.
                if (!WantedPlaces().Contains(name))
                {
                    reasons.Add($"not locked at {name}: it is not there");
                }
            }
            else if (found.LockedUntilMs < untilMs)
            {
                reasons.Add(found.Place.IsPeer ? $"not locked for long enough at {name}: its rule there says for how long (replication rule set --lock-for)" : $"not locked for long enough at {name}");
            }
        }
    }

    private static string Few(int count, uint wanted, string one, string many) => $"{count} of {wanted} {(wanted == 1 ? one : many)}";

    private string DescribeAbsence(string name)
    {
        if (places.FindStore(name) is not null)
        {
            return $"not at {name}";
        }
        return places.FindPeer(name) is null ? $"not at {name}: there is no such peer, or it was revoked"
            : !machine.Readers.Contains(name) ? $"not at {name}: it may not read this machine (peer allow)"
            : !machine.Holders.Contains(name) ? $"not at {name}: it does not pull this machine, or did not tell yet"
            : $"not at {name} yet";
    }

    private string WhyNoPeer() =>
        machine.Holders.Count > 0 ? "" : places.PeerRows.Count == 0 ? "" : machine.Readers.Count == 0 ? ": no peer may read this machine (peer allow)" : ": no peer pulls this machine";
}

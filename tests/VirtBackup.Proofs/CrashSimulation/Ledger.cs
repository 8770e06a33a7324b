using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Sealing;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>
/// What must be true of recovery points, from what was asked and answered alone: who was acknowledged is there, who was
/// forgotten can be brought back for a day at least, and whatever can be seen or brought back is whole.
/// </summary>
internal sealed class Ledger(Calendar calendar)
{
    /// <summary>A forgotten point can be brought back for so long.</summary>
    private static readonly TimeSpan ForgottenFor = TimeSpan.FromHours(24);

    /// <summary>Records that no point needs are kept for so long after they were sent.</summary>
    private static readonly TimeSpan UploadedFor = TimeSpan.FromDays(7);

    private readonly Dictionary<Id16, Standing> _standings = [];
    private readonly HashSet<Id16> _mayExpire = [];
    private bool _expiring;

    /// <summary>Points that must be visible.</summary>
    public IEnumerable<Id16> Visible => PointsThat(Fate.Visible);

    /// <summary>Points that must be forgotten, or gone when that was long ago.</summary>
    public IEnumerable<Id16> Forgotten => PointsThat(Fate.Forgotten);

    private enum Fate
    {
        /// <summary>It must be visible.</summary>
        Visible,

        /// <summary>It must not be visible, but it can be brought back.</summary>
        Forgotten,

        /// <summary>It was asked to be forgotten or brought back, and no answer came.</summary>
        Either,

        /// <summary>It was forgotten, and a census did not find it any more.</summary>
        Gone,
    }

    /// <summary>Somebody who knows has said that the point is committed.</summary>
    public void Committed(Id16 point) => _standings.TryAdd(point, new Standing(_expiring ? Fate.Either : Fate.Visible, calendar.NowMs));

    /// <summary>Any point may be let go now by its rules.</summary>
    public void Expiring(IReadOnlyList<Host> hosts)
    {
        LearnCommitted(hosts);
        _expiring = true;
        foreach (var point in Visible.ToList())
        {
            _mayExpire.Add(point);
            Asked(point);
        }
    }

    /// <summary>All that the rules let go is told.</summary>
    public void Expired(IReadOnlyCollection<Id16> points)
    {
        foreach (var point in points)
        {
            Committed(point);
            Answered(point, forgotten: true);
        }
        foreach (var point in _mayExpire.Except(points).Where(point => _standings[point].Fate == Fate.Either))
        {
            Answered(point, forgotten: false);
        }
        _mayExpire.Clear();
        _expiring = false;
    }

    /// <summary>The point is about to be forgotten or brought back.</summary>
    public void Asked(Id16 point)
    {
        var before = _standings[point];
        _standings[point] = new Standing(Fate.Either, before.Fate == Fate.Visible ? calendar.NowMs : before.SinceMs);
    }

    public void Answered(Id16 point, bool forgotten) => _standings[point] = _standings[point] with { Fate = forgotten ? Fate.Forgotten : Fate.Visible };

    /// <summary>Whether the point was forgotten so long ago that nobody need have it any more.</summary>
    public bool MayBeGone(Id16 point) =>
        _standings[point] is { Fate: not Fate.Visible } standing && standing.SinceMs <= calendar.NowMs - (long)ForgottenFor.TotalMilliseconds;

    /// <summary>Proves a census taken while nothing is under way; what it shows must stay so.</summary>
    /// <param name="life">The life of the controller that has just ended; null: it runs, and no session is open.</param>
    public void Require(Census census, EscrowKeys escrow, IReadOnlyList<Host> hosts, ProvenObjects proven, Power? life)
    {
        LearnCommitted(hosts);
        foreach (var host in hosts)
        {
            foreach (var (point, bytes) in host.Acknowledged.Commits)
            {
                var manifest = census.Points.GetValueOrDefault(point) ?? census.Forgotten.GetValueOrDefault(point);
                if (manifest is not null && !manifest.Bytes.Span.SequenceEqual(bytes))
                {
                    throw new RefutedException($"The manifest of point {point} is not the one whose commit was acknowledged.");
                }
            }
            census.RequireUploads(host.Acknowledged, calendar.NowMs - (long)UploadedFor.TotalMilliseconds, life);
        }
        foreach (var point in _standings.Keys.ToList())
        {
            RequireStanding(census, point);
        }
        foreach (var manifest in census.Points.Values.Concat(census.Forgotten.Values))
        {
            RequireWhole(census, manifest, escrow, hosts, proven);
        }
        foreach (var point in census.Points.Keys)
        {
            _standings[point] = new Standing(Fate.Visible, 0);
        }
        foreach (var point in census.Forgotten.Keys)
        {
            // Committed and never heard of, it cannot have been forgotten.
            _standings[point] = _standings[point] with { Fate = Fate.Forgotten };
        }
        _mayExpire.Clear();
        _expiring = false;
    }

    private void LearnCommitted(IReadOnlyList<Host> hosts)
    {
        foreach (var point in hosts.SelectMany(host => host.Acknowledged.Points))
        {
            Committed(point);
        }
    }

    private void RequireStanding(Census census, Id16 point)
    {
        var fate = _standings[point].Fate;
        var found = census.Points.ContainsKey(point) ? Fate.Visible : census.Forgotten.ContainsKey(point) ? Fate.Forgotten : Fate.Gone;
        var isRight = found switch
        {
            Fate.Visible => fate is Fate.Visible or Fate.Either,
            Fate.Forgotten => fate is Fate.Forgotten or Fate.Either,
            _ => fate == Fate.Gone || MayBeGone(point),
        };
        if (!isRight)
        {
            throw new RefutedException($"Point {point} must be {fate}, but it is {found}.");
        }
        if (found == Fate.Gone)
        {
            _standings[point] = _standings[point] with { Fate = Fate.Gone };
        }
    }

    private static void RequireWhole(Census census, Manifest manifest, EscrowKeys escrow, IReadOnlyList<Host> hosts, ProvenObjects proven)
    {
        var host = hosts.FirstOrDefault(host => host.Sources.ContainsKey(manifest.Head.Point))
            ?? throw new RefutedException($"Nobody has begun point {manifest.Head.Point}, but it is there.");
        census.RequirePoint(manifest, escrow, host.Sources[manifest.Head.Point].Disks, proven);
    }

    private IEnumerable<Id16> PointsThat(Fate fate) => _standings.Where(known => known.Value.Fate == fate).Select(known => known.Key).Order();

    /// <param name="Fate">What must be true.</param>
    /// <param name="SinceMs">When it was asked to be forgotten, Unix milliseconds; of no meaning for a visible point.</param>
    private readonly record struct Standing(Fate Fate, long SinceMs);
}

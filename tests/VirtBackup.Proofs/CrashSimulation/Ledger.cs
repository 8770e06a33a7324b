using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Proofs.Installation;
using VirtBackup.Sealing;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>
/// What must be true of recovery points, from what was asked and answered alone: who was acknowledged is there, who was
/// forgotten can be brought back, and whatever can be seen or brought back is whole.
/// </summary>
internal sealed class Ledger
{
    private readonly Dictionary<Id16, Fate> _fates = [];

    /// <summary>Points that must be visible.</summary>
    public IEnumerable<Id16> Visible => PointsThat(Fate.Visible);

    /// <summary>Points that must be forgotten.</summary>
    public IEnumerable<Id16> Forgotten => PointsThat(Fate.Forgotten);

    private enum Fate
    {
        /// <summary>It must be visible.</summary>
        Visible,

        /// <summary>It must not be visible, but it can be brought back.</summary>
        Forgotten,

        /// <summary>It was asked to be forgotten or brought back, and no answer came.</summary>
        Either,
    }

    /// <summary>Somebody who knows has said that the point is committed.</summary>
    public void Committed(Id16 point) => _fates.TryAdd(point, Fate.Visible);

    /// <summary>The point is about to be forgotten or brought back.</summary>
    public void Asked(Id16 point) => _fates[point] = Fate.Either;

    public void Answered(Id16 point, bool forgotten) => _fates[point] = forgotten ? Fate.Forgotten : Fate.Visible;

    /// <summary>Proves a census taken while nothing is under way; what it shows must stay so.</summary>
    public void Require(Census census, EscrowKeys escrow, IReadOnlyList<Host> hosts, ProvenObjects proven)
    {
        foreach (var host in hosts)
        {
            foreach (var point in host.Acknowledged.Points)
            {
                Committed(point);
            }
            foreach (var (point, bytes) in host.Acknowledged.Commits)
            {
                var manifest = census.Points.GetValueOrDefault(point) ?? census.Forgotten.GetValueOrDefault(point);
                if (manifest is not null && !manifest.Bytes.Span.SequenceEqual(bytes))
                {
                    throw new RefutedException($"The manifest of point {point} is not the one whose commit was acknowledged.");
                }
            }
            census.RequireUploads(host.Acknowledged);
        }
        foreach (var (point, fate) in _fates)
        {
            var isVisible = census.Points.ContainsKey(point);
            var isForgotten = census.Forgotten.ContainsKey(point);
            if (isVisible ? fate == Fate.Forgotten : fate == Fate.Visible || !isForgotten)
            {
                throw new RefutedException(
                    $"Point {point} must be {fate}, but it is {(isVisible ? "visible" : isForgotten ? "forgotten" : "gone")}.");
            }
        }
        foreach (var manifest in census.Points.Values.Concat(census.Forgotten.Values))
        {
            RequireWhole(census, manifest, escrow, hosts, proven);
        }
        foreach (var point in census.Points.Keys)
        {
            _fates[point] = Fate.Visible;
        }
        foreach (var point in census.Forgotten.Keys)
        {
            _fates[point] = Fate.Forgotten;
        }
    }

    private static void RequireWhole(Census census, Manifest manifest, EscrowKeys escrow, IReadOnlyList<Host> hosts, ProvenObjects proven)
    {
        var host = hosts.FirstOrDefault(host => host.Sources.ContainsKey(manifest.Head.Point))
            ?? throw new RefutedException($"Nobody has begun point {manifest.Head.Point}, but it is there.");
        census.RequirePoint(manifest, escrow, host.Sources[manifest.Head.Point].Disks, proven);
    }

    private IEnumerable<Id16> PointsThat(Fate fate) => _fates.Where(known => known.Value == fate).Select(known => known.Key).Order();
}

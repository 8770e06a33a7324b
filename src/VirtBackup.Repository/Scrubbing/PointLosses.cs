using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>What a recovery point lacks now.</summary>
/// <param name="Range">Which bytes.</param>
/// <param name="IsDoubtful">They lie in a pack that is damaged somewhere or cannot be read now, and may be sound: a restore tells.</param>
/// <param name="Pack">The name of the pack that held the last copy; zero: not known.</param>
public readonly record struct PointLoss(AffectedRange Range, bool IsDoubtful, Id32 Pack)
{
    /// <summary>Runs that are listed for one point.</summary>
    public const int RunsMax = 1000;
}

/// <summary>Finds which byte ranges of a point are lost or in doubt. Use an instance once.</summary>
internal sealed class PointLosses
{
    private readonly IDatabase _index;
    private readonly IncompleteWalk _walk;
    private readonly List<PointLoss> _losses = [];

    public PointLosses(IObjectStore store, IDatabase index)
    {
        _index = index;
        _walk = new IncompleteWalk(store, index) { Leaf = LookAsync, Unreadable = LoseAsync };
    }

    public async ValueTask<IReadOnlyList<PointLoss>> FindAsync(RecoveryPointInfo point, bool isForgotten, CancellationToken cancellationToken)
    {
        if (!await _walk.WalkAsync(point, isForgotten, cancellationToken))
        {
            // Without its manifest nobody knows the streams: the point as a whole.
            return [new PointLoss(new AffectedRange(point.Vm, point.Point, Id16.Empty, new ByteRange(0, point.StreamBytes)), IsDoubtful: false, Id32.Zero)];
        }
        return _losses;
    }

    private async ValueTask LoseAsync(WalkPlace at, Id32 node, long length, bool isUnreadable, CancellationToken cancellationToken)
    {
        var pack = await _index.ReadAsync(
            connection =>
            {
                using var find = connection.Prepare("SELECT pack, position FROM object WHERE id = ?1 AND kind = 2 AND pack <= 0");
                return find.Bind(1, node).Step() ? DamageTable.FindHash(connection, find.GetInt64(0) < 0 ? -find.GetInt64(0) : find.GetInt64(1)) : Id32.Zero;
            },
            cancellationToken);
        Add(at, length, new Fate(isUnreadable, pack));
    }

    private async ValueTask LookAsync(WalkPlace at, MapLeaf leaf, CancellationToken cancellationToken)
    {
        var fates = await _index.ReadAsync(connection => FindFates(connection, at.Head, leaf), cancellationToken);
        for (var i = 0; i < leaf.Count; i++)
        {
            if (fates[i] is { } fate)
            {
                Add(at, leaf.LengthAt(i), fate);
            }
            at = at with { Offset = at.Offset + leaf.LengthAt(i) };
        }
    }

    /// <summary>For each entry null when it has a sound location.</summary>
    private static Fate?[] FindFates(ISqlConnection connection, ManifestHead head, MapLeaf leaf)
    {
        var fates = new Fate?[leaf.Count];
        var scope = ObjectTable.FindScope(connection, head.Scope) ?? -1;
        using var find = connection.Prepare("SELECT pack, position FROM object WHERE id = ?1 AND kind = ?2 AND scope = ?3 AND raw_length = ?4 ORDER BY pack");
        find.Bind(2, (long)RecordKind.Data).Bind(3, scope);
        for (var i = 0; i < fates.Length; i++)
        {
            if (leaf.IdAt(i).IsZero)
            {
                continue;
            }
            Fate? fate = new Fate(IsDoubtful: false, Id32.Zero);
            find.Bind(1, leaf.IdAt(i)).Bind(4, leaf.LengthAt(i));
            while (find.Step())
            {
                var pack = find.GetInt64(0);
                if (pack > 0)
                {
                    fate = null;
                    break;
                }
                fate = new Fate(pack < 0, DamageTable.FindHash(connection, pack < 0 ? -pack : find.GetInt64(1)));
            }
            find.Reset();
            fates[i] = fate;
        }
        return fates;
    }

    private void Add(WalkPlace at, long length, Fate fate)
    {
        var range = new AffectedRange(at.Head.Vm, at.Head.Point, at.Stream.Id, new ByteRange(at.Offset, length));
        if (_losses is [.., var last] && last.Range.Stream == range.Stream && last.IsDoubtful == fate.IsDoubtful && last.Pack == fate.Pack && last.Range.Range.End == at.Offset)
        {
            _losses[^1] = last with { Range = range with { Range = new ByteRange(last.Range.Range.Offset, last.Range.Range.Length + length) } };
        }
        else if (_losses.Count < PointLoss.RunsMax)
        {
            _losses.Add(new PointLoss(range, fate.IsDoubtful, fate.Pack));
        }
    }

    private readonly record struct Fate(bool IsDoubtful, Id32 Pack);
}

using System.Runtime.InteropServices;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>
/// The trees of one machine's points, one after the other. Each point shares all nodes with the one before but those above
/// its changes. Counts references, and what the deletion of a single point would free. Runs once.
/// </summary>
internal sealed class MachineHistory
{
    private readonly HistoryShape _shape;
    private readonly PackLayout _layout;
    private readonly int _machine;
    private readonly References _references;
    private readonly MapPackWriter _packs;
    private readonly long[] _disk;
    private readonly int[][] _levels;
    private readonly long[] _areas;
    private readonly Id16 _epoch;
    private readonly MapEntry[] _entries = new MapEntry[HistoryShape.LeafChunks];
    private readonly Id32[] _children = new Id32[MapShape.Radix];

    public MachineHistory(HistoryShape shape, PackLayout layout, int machine, References references, MapPackWriter packs)
    {
        (_shape, _layout, _machine, _references, _packs, _epoch) = (shape, layout, machine, references, packs, Fleet.Epoch(machine));
        _disk = new long[shape.DiskChunks];
        _levels = [.. Enumerable.Range(0, shape.Disk.Height + 1).Select(level => new int[shape.Disk.NodeCountOf(level)])];
        _areas = [.. AreasOf(shape.Disk.LeafCount)];
    }

    /// <summary>The root of the next point.</summary>
    public Id32 Take(int point)
    {
        var changed = point == 0 ? Fill() : Change(point);
        for (var level = 0; level <= _shape.Disk.Height; level++)
        {
            foreach (var at in changed)
            {
                Replace(level, at, point);
            }
            changed = [.. changed.Select(static at => at / MapShape.Radix).Distinct()];
        }
        var root = _levels[^1][0];
        _references.CountNode(root);
        _packs.Close();
        return _references.Nodes[root].Id;
    }

    private IEnumerable<long> AreasOf(long leaves)
    {
        // In the first, second, seventh and eighth eighth or quarter of the disk; new files come between them.
        (long From, long To)[] parts = [(0, leaves / 4), (leaves / 4, leaves / 2), (leaves * 3 / 4, leaves * 7 / 8), (leaves * 7 / 8, leaves - 1)];
        for (var i = 0; i < parts.Length; i++)
        {
            var room = parts[i].To - parts[i].From - _shape.HotLeaves;
            yield return parts[i].From + (long)(_layout.Names.Chance(_machine, 20 + (ulong)i) % (ulong)room);
        }
    }

    private List<long> Fill()
    {
        for (long at = 0; at < _disk.Length; at++)
        {
            _disk[at] = at < _shape.PoolChunks ? at : _shape.BaseStart(_machine) + at - _shape.PoolChunks;
        }
        return [.. Enumerable.Range(0, checked((int)_shape.Disk.LeafCount)).Select(static leaf => (long)leaf)];
    }

    /// <summary>The leaves that the point changes, ascending.</summary>
    private List<long> Change(int point)
    {
        var leaves = new SortedSet<long>();
        var (own, shared, slot) = (_shape.OwnStart(_machine, point), _shape.SharedStart(point), 0);
        for (var area = 0; area < _areas.Length; area++)
        {
            if (area == HistoryShape.HotAreas / 2)
            {
                AddFiles(point, ref own, leaves);
            }
            for (var leaf = _areas[area]; leaf < _areas[area] + _shape.HotLeaves; leaf++)
            {
                for (var i = 0; i < HistoryShape.HotPerLeaf; i++)
                {
                    Put((leaf * HistoryShape.LeafChunks) + (i * 12), slot++ % HistoryShape.SharedEvery == 0 ? shared++ : own++, point, leaves);
                }
            }
        }
        return [.. leaves];
    }

    private void AddFiles(int point, ref long own, SortedSet<long> leaves)
    {
        var (from, to) = (_disk.LongLength / 2, _disk.LongLength * 3 / 4 / HistoryShape.LeafChunks * HistoryShape.LeafChunks);
        for (var i = 0; i < HistoryShape.ColdChunks; i++)
        {
            Put(from + ((((point - 1) * HistoryShape.ColdChunks) + i) % (to - from)), own++, point, leaves);
        }
    }

    private void Put(long at, long chunk, int point, SortedSet<long> leaves)
    {
        var before = _disk[at];
        var former = point < 2 ? long.MaxValue : _shape.OwnStart(_machine, point - 1);
        if (before >= former && before < former + _shape.OwnChunks)
        {
            _references.NoteFreedChunk(_machine, point - 1);
        }
        _disk[at] = chunk;
        leaves.Add(at / HistoryShape.LeafChunks);
    }

    private void Replace(int level, long at, int point)
    {
        if (point > 0)
        {
            var before = _references.Nodes[_levels[level][at]];
            if (before.Point == point - 1)
            {
                _references.NoteFreedNode(_machine, point - 1);
            }
        }
        var place = _shape.Disk.PlaceOf(level, at);
        var node = level == 0 ? BuildLeaf(place, at) : BuildInner(place, level, at);
        _levels[level][at] = _packs.Add(node, place, (short)_machine, (short)point);
    }

    private byte[] BuildLeaf(MapPlace place, long leaf)
    {
        var count = place.FixedChunkCount;
        for (var i = 0; i < count; i++)
        {
            var chunk = _disk[(leaf * HistoryShape.LeafChunks) + i];
            _references.CountChunk(chunk);
            var secret = new Id32(new UInt128(_layout.Names.Chance(chunk, 30), (ulong)_machine), new UInt128((ulong)chunk, 1));
            _entries[i] = new MapEntry(PackLayout.RawLength, _layout.Names.IdOf(chunk), secret, _epoch);
        }
        return MapLeaf.Build(place, _entries.AsSpan(0, count))!;
    }

    private byte[] BuildInner(MapPlace place, int level, long at)
    {
        var nodes = CollectionsMarshal.AsSpan(_references.Nodes);
        for (var i = 0; i < place.ChildCount; i++)
        {
            ref var child = ref nodes[_levels[level - 1][(at * MapShape.Radix) + i]];
            child.Count++;
            _children[i] = child.Id;
        }
        return MapInner.Build(place, _children.AsSpan(0, place.ChildCount))!;
    }
}

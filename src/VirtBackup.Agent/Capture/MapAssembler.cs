using VirtBackup.Agent.Records;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Capture;

/// <summary>
/// Builds the map of one disk while its leaves finish in any order. Only nodes on the way to unfinished leaves are held,
/// however big the disk. A node that equals the base's is not emitted again.
/// </summary>
/// <remarks>
/// One planner walks ascending and calls <see cref="EnterAsync"/> and <see cref="FinishPlanningAsync"/>;
/// <see cref="SetLeafAsync"/> is safe for concurrent use.
/// </remarks>
internal sealed class MapAssembler(
    MapGeometry geometry, bool sharesUntouched, Id32 baseRoot, NodeSource? baseNodes, Func<Id32, byte[], CancellationToken, ValueTask> emit)
{
    private const int RadixLog2 = 6;

    private readonly Lock _gate = new();
    private readonly OpenNode?[] _path = new OpenNode?[geometry.Height + 1];
    private readonly Dictionary<(int Level, long Index), OpenNode> _open = [];

    /// <summary>The map's root; final when planning and all leaves are finished.</summary>
    public Id32 Root { get; private set; } = sharesUntouched ? baseRoot : Id32.Zero;

    /// <summary>
    /// The planner reaches a group of leaves under the level-1 node <paramref name="parent"/>.
    /// </summary>
    /// <returns>The base's leaf at each of <paramref name="leaves"/>, or null where the base has zeros or there is no base.</returns>
    public async Task<IReadOnlyList<MapLeaf?>> EnterAsync(long parent, IReadOnlyList<long> leaves, CancellationToken cancellationToken)
    {
        for (var level = geometry.Height; level >= 1; level--)
        {
            var index = parent >> (RadixLog2 * (level - 1));
            if (_path[level]?.Index == index)
            {
                continue;
            }
            await CloseAsync(level, cancellationToken);
            var baseId = level == geometry.Height ? baseRoot : _path[level + 1]!.BaseChild(index);
            var baseInner = baseId.IsZero || baseNodes is null
                ? (MapInner?)null
                : MapInner.Parse((await baseNodes.ReadAsync([baseId], cancellationToken))[0], geometry.PlaceOf(level, index));
            var node = new OpenNode(level, index, geometry.PlaceOf(level, index), baseId, baseInner, sharesUntouched);
            lock (_gate)
            {
                _open.Add((level, index), node);
                if (level < geometry.Height)
                {
                    _path[level + 1]!.Pending++;
                }
                _path[level] = node;
            }
        }
        lock (_gate)
        {
            if (_path.Length > 1)
            {
                _path[1]!.Pending += leaves.Count;
            }
        }
        return await ReadBaseLeavesAsync(leaves, cancellationToken);
    }

    /// <summary>No further group will be entered.</summary>
    public ValueTask FinishPlanningAsync(CancellationToken cancellationToken) => CloseAsync(geometry.Height, cancellationToken);

    /// <summary>A leaf is complete: emits it unless the base has it, then every node that became complete by it.</summary>
    /// <param name="leaf">Its number.</param>
    /// <param name="node">Its bytes; null when it is all zero.</param>
    /// <param name="baseId">The base's leaf at this place, or zero.</param>
    public async ValueTask SetLeafAsync(long leaf, byte[]? node, Id32 baseId, CancellationToken cancellationToken)
    {
        var id = await EmitAsync(node, baseId, cancellationToken);
        if (geometry.Height == 0)
        {
            Root = id;
            return;
        }
        await SetChildAsync(1, leaf / MapShape.Radix, (int)(leaf % MapShape.Radix), id, cancellationToken);
    }

    /// <summary>The base's leaf id at <paramref name="leaf"/>, whose parent was entered.</summary>
    public Id32 BaseLeafId(long leaf) => geometry.Height == 0 ? baseRoot : _path[1]!.BaseChild(leaf);

    private async Task<IReadOnlyList<MapLeaf?>> ReadBaseLeavesAsync(IReadOnlyList<long> leaves, CancellationToken cancellationToken)
    {
        var result = new MapLeaf?[leaves.Count];
        var stored = Enumerable.Range(0, leaves.Count).Where(i => !BaseLeafId(leaves[i]).IsZero).ToArray();
        if (baseNodes is null || stored.Length == 0)
        {
            return result;
        }
        var nodes = await baseNodes.ReadAsync([.. stored.Select(i => BaseLeafId(leaves[i]))], cancellationToken);
        for (var n = 0; n < stored.Length; n++)
        {
            result[stored[n]] = MapLeaf.Parse(nodes[n], geometry.PlaceOf(0, leaves[stored[n]]));
        }
        return result;
    }

    private async ValueTask CloseAsync(int level, CancellationToken cancellationToken)
    {
        // A node whose child level is still open in the planner's path is closed after that child.
        for (var below = 1; below <= level; below++)
        {
            OpenNode? node;
            lock (_gate)
            {
                node = _path[below];
                if (node is null)
                {
                    continue;
                }
                _path[below] = null;
                node.Closed = true;
                if (node.Pending > 0)
                {
                    continue;
                }
            }
            await FinishAsync(node, cancellationToken);
        }
    }

    private async ValueTask SetChildAsync(int level, long index, int child, Id32 id, CancellationToken cancellationToken)
    {
        OpenNode node;
        lock (_gate)
        {
            node = _open[(level, index)];
            node.Children[child] = id;
            node.Pending--;
            if (node.Pending > 0 || !node.Closed)
            {
                return;
            }
        }
        await FinishAsync(node, cancellationToken);
    }

    private async ValueTask FinishAsync(OpenNode node, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            // The planner and the last child may both see the node complete; the first one takes it.
            if (!_open.Remove((node.Level, node.Index)))
            {
                return;
            }
        }
        var id = await EmitAsync(MapInner.Build(node.Place, node.Children), node.BaseId, cancellationToken);
        if (node.Level == geometry.Height)
        {
            Root = id;
            return;
        }
        await SetChildAsync(node.Level + 1, node.Index / MapShape.Radix, (int)(node.Index % MapShape.Radix), id, cancellationToken);
    }

    private async ValueTask<Id32> EmitAsync(byte[]? node, Id32 baseId, CancellationToken cancellationToken)
    {
        if (node is null)
        {
            return Id32.Zero;
        }
        var id = NodeId.Compute(node);
        if (id != baseId)
        {
            await emit(id, node, cancellationToken);
        }
        return id;
    }

    private sealed class OpenNode
    {
        private readonly MapInner? _baseInner;

        public OpenNode(int level, long index, MapPlace place, Id32 baseId, MapInner? baseInner, bool sharesUntouched)
        {
            Level = level;
            Index = index;
            Place = place;
            BaseId = baseId;
            _baseInner = baseInner;
            Children = new Id32[place.ChildCount];
            for (var i = 0; sharesUntouched && baseInner is { } inner && i < Children.Length; i++)
            {
                Children[i] = inner[i];
            }
        }

        public int Level { get; }
        public long Index { get; }
        public MapPlace Place { get; }
        public Id32 BaseId { get; }
        public Id32[] Children { get; }
        public int Pending { get; set; }
        public bool Closed { get; set; }

        public Id32 BaseChild(long childIndex) => _baseInner is { } inner ? inner[(int)(childIndex % MapShape.Radix)] : Id32.Zero;
    }
}

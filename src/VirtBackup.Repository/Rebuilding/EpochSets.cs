using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>Sets of key epochs by number: trees share few. 0 is the empty one. Not safe for concurrent use.</summary>
internal sealed class EpochSets
{
    private readonly List<EpochSet> _sets = [EpochSet.Empty];
    private readonly Dictionary<EpochSet, int> _numbers = new() { [EpochSet.Empty] = 0 };
    private readonly Dictionary<Id16, int> _single = [];
    private readonly Dictionary<(int, int), int> _unions = [];

    public EpochSet this[int number] => _sets[number];

    public int Of(in MapLeaf leaf)
    {
        if (leaf.EpochCount == 1 && _single.TryGetValue(leaf.EpochAt(0), out var known))
        {
            return known;
        }
        var epochs = new Id16[leaf.EpochCount];
        for (var i = 0; i < epochs.Length; i++)
        {
            epochs[i] = leaf.EpochAt(i);
        }
        var number = NumberOf(EpochSet.Create(epochs));
        if (epochs.Length == 1)
        {
            _single.Add(epochs[0], number);
        }
        return number;
    }

    public int Union(int left, int right)
    {
        if (left == right || right == 0)
        {
            return left;
        }
        if (!_unions.TryGetValue((left, right), out var union))
        {
            _unions.Add((left, right), union = NumberOf(_sets[left].Union(_sets[right])));
        }
        return union;
    }

    private int NumberOf(EpochSet set)
    {
        if (!_numbers.TryGetValue(set, out var number))
        {
            _numbers.Add(set, number = _sets.Count);
            _sets.Add(set);
        }
        return number;
    }
}

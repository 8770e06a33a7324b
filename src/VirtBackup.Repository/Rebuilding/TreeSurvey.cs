using VirtBackup.Core;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// Reads every node that the marks of roots lead to: one sweep over the packs of map nodes for each level, from the top down.
/// </summary>
internal sealed class TreeSurvey(RebuildSpace space, IObjectStore store, RebuildNews news)
{
    private const int NodesPerNews = 1024;

    private readonly NodeSweep _sweep = new(space, store);

    /// <exception cref="FaultException"><see cref="FaultReason.Unavailable"/>: the store fails.</exception>
    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        for (var level = space.Trees.LevelMax; level >= 0; level--)
        {
            await SweepAsync(level, cancellationToken);
        }
        news.Tell();
    }

    private async ValueTask SweepAsync(int level, CancellationToken cancellationToken)
    {
        var trees = space.Trees;
        long read = 0;
        await foreach (var (node, bytes) in _sweep.ReadAsync(node => HasMark(node, level), cancellationToken))
        {
            for (var mark = trees.Nodes[node].FirstMark; mark >= 0; mark = trees[mark].Next)
            {
                if (trees[mark].Place.Level != level)
                {
                    continue;
                }
                if (bytes.IsEmpty)
                {
                    trees[mark].IsBroken = true;
                }
                else
                {
                    news.AddReferences(trees.Descend(mark, bytes));
                }
            }
            if (++read % NodesPerNews == 0)
            {
                news.Tell();
            }
        }
    }

    private bool HasMark(int node, int level)
    {
        for (var mark = space.Trees.Nodes[node].FirstMark; mark >= 0; mark = space.Trees[mark].Next)
        {
            if (space.Trees[mark].Place.Level == level)
            {
                return true;
            }
        }
        return false;
    }
}

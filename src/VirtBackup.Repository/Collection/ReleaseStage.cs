using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Collection;

/// <summary>
/// Deletion cascades through the tree: a node that nothing refers to is complete no longer and releases its children, which
/// may then be such nodes themselves. What is left to do is always what the index says, so a run that was cut off goes on.
/// Nothing is lost by it: a node that is needed again is counted again.
/// </summary>
internal static class ReleaseStage
{
    private const int NodesPerTransaction = 64;

    public static async ValueTask RunAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        var nodes = new NodeReader(run.Store, run.Index);
        long released;
        do
        {
            released = 0;
            var after = Id32.Zero;
            while (true)
            {
                var page = await run.Index.ReadAsync(connection => CandidateTable.ListNodes(connection, after, NodesPerTransaction), cancellationToken);
                if (page.Count == 0)
                {
                    break;
                }
                after = page[^1].Id;
                released += await ReleaseAsync(run, nodes, page, cancellationToken);
            }
            run.Report = run.Report with { NodesReleased = run.Report.NodesReleased + released };
        }
        while (released > 0 && !run.IsDryRun);
    }

    private static async ValueTask<long> ReleaseAsync(CollectionRun run, NodeReader nodes, List<ReleasableNode> page, CancellationToken cancellationToken)
    {
        var loaded = new List<(ReleasableNode Node, byte[] Bytes)>(page.Count);
        foreach (var node in page)
        {
            if (!run.IsUnclaimed(node.Number, node.CreatedMs))
            {
                continue;
            }
            try
            {
                loaded.Add((node, await nodes.ReadAsync(node.Id, cancellationToken)));
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.Corrupt or FaultReason.NotFound or FaultReason.Unavailable)
            {
                // One bad place of the device, unless the store is gone altogether.
                await run.Owner.RequireAsync(cancellationToken);
                // Without its bytes nobody knows its children: they stay counted and stored.
                run.AddProblem($"The map node {node.Id} cannot be read, so what it holds is kept: {fault.Message}");
            }
        }
        run.Report = run.Report with
        {
            RowsRead = run.Report.RowsRead + page.Count,
            NodesRead = run.Report.NodesRead + loaded.Count,
            BytesRead = run.Report.BytesRead + loaded.Sum(static node => (long)node.Bytes.Length),
        };
        if (run.IsDryRun || loaded.Count == 0)
        {
            return loaded.Count;
        }
        return await run.ChangeAsync(
            connection =>
            {
                long released = 0;
                foreach (var (node, bytes) in loaded)
                {
                    if (run.IsUnclaimed(node.Number, node.CreatedMs) && CandidateTable.TryUnhold(connection, node.Id))
                    {
                        CompleteNodeTable.Remove(connection, node.Id);
                        ReleaseChildren(connection, bytes);
                        released++;
                    }
                }
                return released;
            },
            cancellationToken);
    }

    private static void ReleaseChildren(ISqlConnection connection, byte[] node)
    {
        var children = NodeChildren.Of(node);
        foreach (var child in children.Ids)
        {
            ReferenceCounts.Release(connection, children.Kind, child);
        }
    }
}

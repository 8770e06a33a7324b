using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository;

namespace VirtBackup.Controller.Collection;

/// <summary>Says whether space is being freed. Safe for concurrent use.</summary>
public sealed class CollectionOutlook(BackupRepository repository, CollectionService collections)
{
    public async ValueTask<RepositoryCollection> DescribeAsync(CancellationToken cancellationToken)
    {
        var state = await repository.GetCollectionStateAsync(cancellationToken);
        return new RepositoryCollection
        {
            FinishTime = state.FinishedMs > 0 ? WireText.ToTimestamp(state.FinishedMs) : null,
            AuditTime = state.AuditedMs > 0 ? WireText.ToTimestamp(state.AuditedMs) : null,
            AuditProblem = state.AuditProblem ?? "",
            Problem = collections.Problem ?? "",
        };
    }
}

using VirtBackup.Core;
using VirtBackup.Format.Records;
using VirtBackup.Repository;
using VirtBackup.Repository.Scrubbing;

namespace VirtBackup.Controller.Copies;

/// <summary>The repository, to heal copies from. Safe for concurrent use.</summary>
internal sealed class RepositoryRecords(BackupRepository repository) : IRecordSource
{
    public string Name => "the repository";

    public async ValueTask<ReadOnlyMemory<byte>?> FetchAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken) =>
        await repository.Serving.FindRecordAsync(kind, id, scope, cancellationToken) is { } record ? record : null;
}

/// <summary>All copy stores that are open, to heal the repository from, and each other. Safe for concurrent use.</summary>
/// <param name="open">Those that are open now.</param>
/// <param name="except">Not this one; null: all.</param>
internal sealed class CopiedRecords(Func<IEnumerable<OpenCopy>> open, string? except) : IRecordSource
{
    public string Name => "a copy store";

    public async ValueTask<ReadOnlyMemory<byte>?> FetchAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken)
    {
        FaultException? last = null;
        foreach (var copy in open().Where(copy => copy.Row.Name != except))
        {
            using var use = copy.TryUse();
            if (use is null)
            {
                continue;
            }
            try
            {
                using var waiting = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, copy.Closing);
                if (await copy.Repository.Serving.FindRecordAsync(kind, id, scope, waiting.Token) is { } record)
                {
                    return record;
                }
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                // It closes: another one may have the record.
            }
            catch (FaultException fault)
            {
                last = fault;
            }
        }
        return last is null ? null : throw last;
    }
}

using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>Another place that may hold a copy of a record under the same id: another repository, most of all.</summary>
public interface IRecordSource
{
    /// <summary>For logs: "repository at backup2.example".</summary>
    string Name { get; }

    /// <summary>The record, header and payload, whose bytes stay as they are; null: there is none. It is not trusted: the caller checks it.</summary>
    /// <exception cref="FaultException">The source cannot be asked now.</exception>
    ValueTask<ReadOnlyMemory<byte>?> FetchAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken);
}

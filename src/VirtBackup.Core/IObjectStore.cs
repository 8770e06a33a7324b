namespace VirtBackup.Core;

/// <summary>One stored object: its key and length in bytes.</summary>
public readonly record struct ObjectInfo(string Key, long Length);

/// <summary>
/// The storage port: a flat space of write-once objects named by slash-separated keys (<c>[a-zA-Z0-9._-]</c> segments,
/// at most 255 characters each and 512 in all, no <c>.</c> or <c>..</c> segment; the first segments <c>staging</c> and
/// <c>lock</c> are the stores' own; see <see cref="ObjectKey"/>). No key is used as the folder of another. A local folder, S3 and Azure Blob serve it alike, and so
/// does the simulated store of the tests. All members are safe for concurrent use.
/// </summary>
/// <remarks>
/// Durability contract: when <see cref="IObjectWriter.PublishAsync"/> returns true, the object and its name survive a
/// power loss; until then nothing is visible under any key. Deleting is durable when the call returns.
/// Failures: <see cref="FaultReason.InvalidArgument"/> (not a key), <see cref="FaultReason.DeviceFull"/>,
/// <see cref="FaultReason.Denied"/>, <see cref="FaultReason.Unavailable"/> (worth a retry),
/// <see cref="FaultReason.NotFound"/> on reading or measuring what is not there.
/// </remarks>
public interface IObjectStore
{
    /// <summary>Opens a staged object that has no name yet. Dispose without publishing to drop it.</summary>
    ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Reads up to <paramref name="destination"/>.Length bytes at <paramref name="offset"/>; fewer only at the object's end.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>: no such object.</exception>
    ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken);

    /// <summary>The object, or null when there is none.</summary>
    ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken);

    /// <summary>Objects whose key starts with <paramref name="prefix"/> (a whole number of segments, ending in '/', or empty), in any order.</summary>
    IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, CancellationToken cancellationToken);

    /// <summary>Removes the object. False: it was not there, where the store can tell without being asked twice.</summary>
    ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken);

    /// <summary>Where the objects are, for people.</summary>
    string Location => "the repository";

    /// <summary>Requests and bytes since the store was opened, or null when it is not reached over the network.</summary>
    StoreTraffic? Traffic => null;

    /// <summary>
    /// The same objects, for those that are read again and again: where reading costs requests, copies of what is stored and read
    /// this way are kept on a local disk, checked by their hashes and never needed. What proves the store's own bytes does not
    /// read this way.
    /// </summary>
    IObjectStore Near => this;

    /// <summary>Keeps objects from whoever has the store's credentials; null: the store is not set up for it.</summary>
    IObjectRetention? Retention => null;

    /// <summary>Length at which packs are closed, bytes: longer where each object costs a request.</summary>
    int PackBytesTarget => Limits.PackBytesTarget;

    /// <summary>Bytes that can still be written, or null when the store has no such limit.</summary>
    ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken);
}

/// <summary>
/// Has the provider of a store refuse to delete or replace objects until some time, whoever asks. Times are Unix milliseconds.
/// Safe for concurrent use.
/// </summary>
public interface IObjectRetention
{
    /// <summary>Nobody can end it before its time, also not with special rights.</summary>
    bool IsFinal { get; }

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the place was not made for it; the message says so.</exception>
    ValueTask RequireAsync(CancellationToken cancellationToken);

    /// <summary>Retains the object until then, or for longer if it is already.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>: there is no such object.</exception>
    ValueTask RetainAsync(string key, long untilMs, CancellationToken cancellationToken);

    /// <summary>Until when the provider retains the object; 0: it does not.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>: there is no such object.</exception>
    ValueTask<long> FindAsync(string key, CancellationToken cancellationToken);
}

/// <summary>A staged object. Not safe for concurrent use. After any failure it can only be disposed: it is never retried.</summary>
public interface IObjectWriter : IAsyncDisposable
{
    /// <summary>Bytes written so far.</summary>
    long Length { get; }

    ValueTask WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken);

    /// <summary>
    /// Forces the bytes to stable storage and gives them their name, only if no object has that key. False: the key
    /// exists already, durably, and nothing was written; the staged object is spent in either case. When it fails, whether
    /// the key exists is not known: ask the store.
    /// </summary>
    ValueTask<bool> PublishAsync(string key, CancellationToken cancellationToken);
}

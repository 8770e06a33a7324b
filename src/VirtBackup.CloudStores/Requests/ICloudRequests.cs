using VirtBackup.CloudStores.Spool;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Requests;

/// <summary>
/// A provider's requests, one for each call and none repeated; they fail with <see cref="CloudRequestException"/>. Names are
/// whole: the store's prefix and the key. Safe for concurrent use.
/// </summary>
internal interface ICloudRequests : IDisposable
{
    /// <summary>The store, for people.</summary>
    string Location { get; }

    StoreTraffic Traffic { get; }

    /// <summary>Longest object that one request stores, bytes.</summary>
    long SinglePutBytesMax { get; }

    /// <summary>Stores the object if the name is free.</summary>
    /// <exception cref="CloudRequestException"><see cref="FailureKind.ConditionFailed"/>: the name is taken.</exception>
    Task PutAsync(string name, SpooledContent content, ObjectMark mark, CancellationToken cancellationToken);

    /// <summary>Begins an object of several parts; returns its id.</summary>
    Task<string> BeginPartsAsync(string name, ObjectMark mark, CancellationToken cancellationToken);

    /// <summary>Stores one part, from 1; returns what names it at the end.</summary>
    Task<string> PutPartAsync(string name, string id, int number, SpooledContent content, long offset, long length, CancellationToken cancellationToken);

    /// <summary>Makes the parts the object, if the name is free.</summary>
    /// <exception cref="CloudRequestException"><see cref="FailureKind.ConditionFailed"/>: the name is taken.</exception>
    Task CompletePartsAsync(string name, string id, IReadOnlyList<string> parts, ObjectMark mark, CancellationToken cancellationToken);

    /// <summary>Drops the parts.</summary>
    Task AbortPartsAsync(string name, string id, CancellationToken cancellationToken);

    /// <summary>Objects whose parts were never completed.</summary>
    Task<IReadOnlyList<UnfinishedObject>> ListPartsAsync(string prefix, CancellationToken cancellationToken);

    /// <summary>
    /// The object's length and mark. Null only if the provider itself says that there is no such object: what stands between may answer 404, too, and
    /// what is taken for absent is deleted or made anew.
    /// </summary>
    Task<CloudObject?> FindAsync(string name, CancellationToken cancellationToken);

    /// <summary>Asks for a range, of at least one byte; the caller reads and disposes the body.</summary>
    /// <param name="name">Whose.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="version">Of an earlier answer: another version fails with <see cref="FailureKind.ConditionFailed"/>. Null: any.</param>
    /// <param name="cancellationToken">Stops it.</param>
    Task<CloudBody> GetAsync(string name, long offset, long length, string? version, CancellationToken cancellationToken);

    /// <summary>One page of the objects whose names begin so.</summary>
    Task<CloudPage> ListAsync(string prefix, string? continuation, CancellationToken cancellationToken);

    /// <summary>Deletes; what is not there is deleted already.</summary>
    Task DeleteAsync(string name, CancellationToken cancellationToken);

    /// <summary>Makes sure that objects can be retained here.</summary>
    /// <exception cref="CloudRequestException">They cannot: it says why.</exception>
    Task RequireRetentionAsync(CancellationToken cancellationToken);

    /// <summary>Has the provider refuse to delete or replace the object until then; what is retained for longer stays so.</summary>
    Task RetainAsync(string name, DateTimeOffset until, CancellationToken cancellationToken);

    /// <summary>Until when the provider keeps the object; null: it does not.</summary>
    Task<DateTimeOffset?> FindRetentionAsync(string name, CancellationToken cancellationToken);

    /// <summary>What a failure while a body is read means.</summary>
    CloudRequestException Translate(Exception exception);
}

/// <summary>What each object carries: who stored it, and what it must hold.</summary>
/// <param name="Nonce">Of one publication: an object that carries it is the one that was published, whatever became of the answer.</param>
/// <param name="Sha256">Hexadecimal, of the whole object.</param>
internal sealed record ObjectMark(string Nonce, string Sha256);

/// <param name="Name">Whole.</param>
/// <param name="Id">Of <see cref="ICloudRequests.BeginPartsAsync"/>.</param>
/// <param name="Begun">By the provider's clock.</param>
internal sealed record UnfinishedObject(string Name, string Id, DateTimeOffset Begun);

/// <param name="Mark">Null: stored by another program.</param>
internal sealed record CloudObject(long Length, ObjectMark? Mark);

/// <param name="Objects">Whole names and lengths.</param>
/// <param name="Continuation">Leads to the next page; null: this was the last one.</param>
internal sealed record CloudPage(IReadOnlyList<(string Name, long Length)> Objects, string? Continuation);

/// <summary>An answer to <see cref="ICloudRequests.GetAsync"/>.</summary>
/// <param name="Owner">What is to be disposed.</param>
/// <param name="Stream">The bytes.</param>
/// <param name="Length">How many there should be.</param>
/// <param name="ObjectLength">Of the whole object.</param>
/// <param name="Version">Names these contents.</param>
/// <param name="Mark">The object's.</param>
internal sealed record CloudBody(IDisposable Owner, Stream Stream, long Length, long ObjectLength, string Version, ObjectMark? Mark) : IDisposable
{
    public void Dispose() => Owner.Dispose();
}

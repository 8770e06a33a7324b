using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Controller.Copies;

/// <summary>The way to second places of the repository.</summary>
public interface ICopyPlaces
{
    /// <summary>Opens a place for this process alone: with its lock or lease.</summary>
    /// <param name="name">Of the copy store: what is kept of it here lies under this name.</param>
    /// <param name="location">Where it is.</param>
    /// <param name="isNew">It may have to be made; otherwise a folder that is not there is a disk that is not mounted.</param>
    /// <param name="cancellationToken">Stops the opening.</param>
    /// <exception cref="FaultException">It cannot be opened or reached; the message says why and what to do.</exception>
    ValueTask<CopyPlace> OpenAsync(string name, StoreLocation location, bool isNew, CancellationToken cancellationToken);

    /// <summary>Deletes what is kept here of a copy store that is not open.</summary>
    void Forget(string name);
}

/// <summary>A place that is open until it is disposed.</summary>
/// <param name="Store">Its objects.</param>
/// <param name="Index">Of the repository in it, opened with <see cref="VirtBackup.Repository.Index.RepositoryIndex.Schema"/>.</param>
/// <param name="Close">Closes both.</param>
public sealed record CopyPlace(IObjectStore Store, IDatabase Index, Func<ValueTask> Close) : IAsyncDisposable
{
    public ValueTask DisposeAsync() => Close();
}

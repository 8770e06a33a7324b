using System.Collections.Concurrent;
using VirtBackup.Controller.Copies;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Repository.Index;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Controller.Tests.Fixtures;

/// <summary>Places for copies, in memory: a store for each location, and an index for each name, which outlive what opens them.</summary>
internal sealed class MemoryPlaces : ICopyPlaces
{
    private static int _count;

    private readonly ConcurrentDictionary<string, SimulatedStore> _stores = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, string> _indexes = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, SqliteDatabase> _kept = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, bool> _taken = new(StringComparer.Ordinal);

    /// <summary>Locations that cannot be reached now.</summary>
    public ConcurrentDictionary<string, bool> Unreachable { get; } = new(StringComparer.Ordinal);

    public SimulatedStore At(string location) => _stores.GetOrAdd(location, static _ => new SimulatedStore());

    public ValueTask<CopyPlace> OpenAsync(string name, StoreLocation location, bool isNew, CancellationToken cancellationToken)
    {
        var at = location.Text;
        if (Unreachable.ContainsKey(at))
        {
            throw new FaultException(FaultReason.Unavailable, $"'{at}' cannot be reached.");
        }
        if (!isNew && !_stores.ContainsKey(at))
        {
            throw new FaultException(FaultReason.NotFound, $"There is no '{at}'.");
        }
        if (!_taken.TryAdd(at, true))
        {
            throw new FaultException(FaultReason.RepositoryBusy, $"'{at}' is open already.");
        }
        // The first connection keeps the database in memory while nobody has it open.
        var database = _indexes.GetOrAdd(name, static name => $"copy {name} {Interlocked.Increment(ref _count)}");
        _ = _kept.GetOrAdd(database, static database => SqliteDatabase.OpenInMemory(database, RepositoryIndex.Schema));
        var index = SqliteDatabase.OpenInMemory(database, RepositoryIndex.Schema);
        return ValueTask.FromResult(new CopyPlace(At(at), index, async () =>
        {
            await index.DisposeAsync();
            _taken.TryRemove(at, out _);
        }));
    }

    public void Forget(string name) => _indexes.TryRemove(name, out _);
}

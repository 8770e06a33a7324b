using VirtBackup.Core;
using VirtBackup.Testing.Stores;

namespace VirtBackup.ObjectStores.Tests;

public sealed class SimulatedStoreConformance : StoreConformance
{
    private readonly SimulatedStore _store = new();

    protected override IObjectStore Store => _store;

    protected override int CountStaged() => _store.StagedCount;
}

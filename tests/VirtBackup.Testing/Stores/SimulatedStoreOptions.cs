using VirtBackup.Core;

namespace VirtBackup.Testing.Stores;

/// <summary>One file operation of the simulated device. Only <see cref="Read"/> changes nothing and is not counted.</summary>
public enum SimulatedStep
{
    Create,
    Write,
    SyncFile,
    GiveName,
    SyncFolder,
    RemoveName,
    Read,
}

/// <summary>A file operation about to happen. <paramref name="Index"/> counts the changing ones from 0.</summary>
public readonly record struct SimulatedOperation(long Index, SimulatedStep Step, string? Key);

/// <summary>How the simulated device behaves, and the defects planted into the store for tests of tests.</summary>
public sealed record SimulatedStoreOptions
{
    /// <summary>Bytes that fit, staged ones included; null for no limit.</summary>
    public long? CapacityBytes { get; init; }

    /// <summary>
    /// Asked before every operation: a reason makes it fail with that fault, nothing done. Called under the store's lock.
    /// As in the local folder store, a failed <see cref="SimulatedStep.SyncFolder"/> ends all naming and removing:
    /// <see cref="SimulatedStore.Kill"/> gives the store that is opened anew.
    /// </summary>
    public Func<SimulatedOperation, FaultReason?>? Inject { get; init; }

    /// <summary>Planted defect: bytes are not flushed before they get their name.</summary>
    public bool SkipFileSync { get; init; }

    /// <summary>Planted defect: the folder is not flushed after a name was given or removed.</summary>
    public bool SkipFolderSync { get; init; }

    /// <summary>Planted defect: an object gets its name, durably, before its bytes are flushed.</summary>
    public bool TearOnPublish { get; init; }
}

/// <summary>The simulated machine lost its power; not a <see cref="FaultException"/>, so that nothing handles it.</summary>
public sealed class SimulatedCrashException(long operation) : Exception($"Simulated crash before operation {operation}.")
{
    public long Operation { get; } = operation;
}

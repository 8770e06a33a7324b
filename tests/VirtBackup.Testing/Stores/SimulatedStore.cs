using System.Runtime.CompilerServices;
using VirtBackup.Core;

namespace VirtBackup.Testing.Stores;

/// <summary>
/// An <see cref="IObjectStore"/> in memory, step by step like the local folder store, on a device that can lose its
/// power before any of its operations. Deterministic when its callers are: no time, no threads of its own; it yields
/// between the steps of publishing and deleting, so that a seeded scheduler can interleave them. Safe for concurrent use.
/// </summary>
/// <example>
/// Run a workload once and read <see cref="Operations"/>; then for each index run it anew with <see cref="CrashAt"/>, catch
/// <see cref="SimulatedCrashException"/>, and check what <see cref="Crash"/> returns.
/// </example>
public sealed class SimulatedStore : IObjectStore
{
    private readonly SimulatedStoreOptions _options;
    private readonly SimulatedDevice _device;
    private readonly Lock _gate = new();
    private long _operations;
    private long _crashAt = long.MaxValue;
    private bool _isDead;
    private bool _isBroken;

    public SimulatedStore(SimulatedStoreOptions? options = null)
        : this(options ?? new SimulatedStoreOptions(), new SimulatedDevice())
    {
    }

    private SimulatedStore(SimulatedStoreOptions options, SimulatedDevice device)
    {
        _options = options;
        _device = device;
    }

    /// <summary>Changing operations done so far: the index of the next one.</summary>
    public long Operations
    {
        get
        {
            lock (_gate)
            {
                return _operations;
            }
        }
    }

    /// <summary>Objects that are being written and have no name yet.</summary>
    public int StagedCount
    {
        get
        {
            lock (_gate)
            {
                return _device.StagedCount;
            }
        }
    }

    /// <summary>
    /// Loses power right before operation <paramref name="index"/>: it and everything after it throw
    /// <see cref="SimulatedCrashException"/>.
    /// </summary>
    public void CrashAt(long index)
    {
        lock (_gate)
        {
            _crashAt = index;
        }
    }

    /// <summary>
    /// Loses power now, if it was not lost before, and returns the store as it is found afterwards;
    /// <paramref name="seed"/> decides what becomes of everything that was not flushed. It may be called repeatedly, each
    /// time with another outcome. Staged objects are gone.
    /// </summary>
    public SimulatedStore Crash(int seed, SimulatedStoreOptions? options = null)
    {
        lock (_gate)
        {
            _isDead = true;
            return new SimulatedStore(options ?? _options, _device.LosePower(new Random(seed)));
        }
    }

    /// <summary>
    /// Not an operation: the device goes bad under an object, for ever. <paramref name="change"/> is given its bytes and
    /// answers what they are from now on; null: the object is gone.
    /// </summary>
    public void Rot(string key, Func<byte[], byte[]?> change)
    {
        lock (_gate)
        {
            _device.Rot(key, change);
        }
    }

    /// <summary>Kills the process but not the machine, and returns the store as its successor finds it.</summary>
    public SimulatedStore Kill(SimulatedStoreOptions? options = null)
    {
        lock (_gate)
        {
            _isDead = true;
            return new SimulatedStore(options ?? _options, _device.LoseProcess());
        }
    }

    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return ValueTask.FromResult<IObjectWriter>(new SimulatedWriter(this, Do(SimulatedStep.Create, null, device => device.Create())));
    }

    public ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        cancellationToken.ThrowIfCancellationRequested();
        return ValueTask.FromResult(Do(SimulatedStep.Read, key, device =>
        {
            var bytes = (device.Find(key) ?? throw new FaultException(FaultReason.NotFound, $"The object {key} is not in the simulated store.")).Bytes;
            bytes = bytes[(int)Math.Min(offset, bytes.Length)..];
            bytes = bytes[..Math.Min(bytes.Length, destination.Length)];
            bytes.CopyTo(destination.Span);
            return bytes.Length;
        }));
    }

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        cancellationToken.ThrowIfCancellationRequested();
        return ValueTask.FromResult(Do(
            SimulatedStep.Read, key, device => device.Find(key) is { } file ? new ObjectInfo(key, file.Length) : (ObjectInfo?)null));
    }

    public async IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        ObjectKey.RequirePrefix(prefix);
        cancellationToken.ThrowIfCancellationRequested();
        await Task.CompletedTask;
        var keys = Do(
            SimulatedStep.Read,
            prefix,
            device => device.Names.Where(key => key.StartsWith(prefix, StringComparison.Ordinal)).Order(StringComparer.Ordinal).ToArray());
        foreach (var key in keys)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (Do(SimulatedStep.Read, key, device => device.Find(key)?.Length) is { } length)
            {
                yield return new ObjectInfo(key, length);
            }
        }
    }

    public async ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        cancellationToken.ThrowIfCancellationRequested();
        var isGone = Do(SimulatedStep.RemoveName, key, device => device.RemoveName(key));
        await Task.Yield();
        SyncFolder(key);
        return isGone;
    }

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return ValueTask.FromResult(_options.CapacityBytes is { } capacity ? Do(SimulatedStep.Read, null, device => (long?)(capacity - device.UsedBytes)) : null);
    }

    internal void Write(SimulatedFile file, ReadOnlySpan<byte> source)
    {
        lock (_gate)
        {
            Begin(SimulatedStep.Write, null);
            if (_options.CapacityBytes is { } capacity)
            {
                var free = capacity - _device.UsedBytes;
                if (source.Length > free)
                {
                    file.Append(source[..(int)free]);
                    throw Fault(FaultReason.DeviceFull, SimulatedStep.Write, null);
                }
            }
            file.Append(source);
        }
    }

    internal async ValueTask<bool> PublishAsync(SimulatedFile file, string key)
    {
        if (!_options.TearOnPublish)
        {
            SyncFile(file, key);
            await Task.Yield();
        }
        var isNew = Do(SimulatedStep.GiveName, key, device => device.GiveName(key, file));
        await Task.Yield();
        SyncFolder(key);
        if (_options.TearOnPublish)
        {
            await Task.Yield();
            SyncFile(file, key);
        }
        return isNew;
    }

    /// <summary>Drops a staged file; after a crash there is nothing left to drop.</summary>
    internal void Drop(SimulatedFile file)
    {
        lock (_gate)
        {
            if (!_isDead)
            {
                _device.Drop(file);
            }
        }
    }

    private void SyncFile(SimulatedFile file, string key)
    {
        if (!_options.SkipFileSync)
        {
            Do(SimulatedStep.SyncFile, key, _ =>
            {
                file.Sync();
                return true;
            });
        }
    }

    private void SyncFolder(string key)
    {
        if (!_options.SkipFolderSync)
        {
            Do(SimulatedStep.SyncFolder, key, device =>
            {
                device.SyncFolderOf(key);
                return true;
            });
        }
    }

    private T Do<T>(SimulatedStep step, string? key, Func<SimulatedDevice, T> body)
    {
        lock (_gate)
        {
            Begin(step, key);
            return body(_device);
        }
    }

    private void Begin(SimulatedStep step, string? key)
    {
        if (_isDead || (_operations >= _crashAt && step != SimulatedStep.Read))
        {
            _isDead = true;
            throw new SimulatedCrashException(_operations);
        }
        var operation = new SimulatedOperation(_operations, step, key);
        if (step != SimulatedStep.Read)
        {
            _operations++;
        }
        if (_isBroken && step is (SimulatedStep.GiveName or SimulatedStep.RemoveName))
        {
            throw Fault(FaultReason.Unavailable, step, key);
        }
        if (_options.Inject?.Invoke(operation) is { } reason)
        {
            _isBroken |= step == SimulatedStep.SyncFolder;
            throw Fault(reason, step, key);
        }
    }

    private static FaultException Fault(FaultReason reason, SimulatedStep step, string? key) =>
        new(reason, $"The simulated store failed to {step} {key ?? "a staged object"}: {reason}.");
}

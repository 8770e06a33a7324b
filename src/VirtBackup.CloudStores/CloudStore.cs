using System.Runtime.CompilerServices;
using VirtBackup.CloudStores.Copies;
using VirtBackup.CloudStores.Leases;
using VirtBackup.CloudStores.Requests;
using VirtBackup.CloudStores.Spool;
using VirtBackup.Core;

namespace VirtBackup.CloudStores;

/// <summary>
/// Objects at a provider: put only if absent, from a local spool, acknowledged after the provider's answer. Requests are
/// repeated until they have an answer, and every answer that was lost is asked for. Whole objects are compared with the hash that was stored with them. Safe
/// for concurrent use.
/// </summary>
public sealed class CloudStore : IObjectStore, IDisposable
{
    /// <summary>Packs are closed at this length, which leaves room for the last record of usual length and the table of contents in one request.</summary>
    private const int PackBytes = 127 << 19;

    private const int PartBytes = 32 << 20;

    // Bytes that arrive damaged so often in a row lie damaged.
    private const int DamagedReadsMax = 3;

    // Only packs can be so long that they go in parts.
    private const string PartsPrefix = "packs/";

    // What was begun by an owner that was followed may still go on.
    private static readonly TimeSpan s_partsAbandonedFor = TimeSpan.FromDays(1);

    private readonly ICloudRequests _requests;
    private readonly RequestRunner _runner;
    private readonly SpoolFolder? _spool;
    private readonly IEntropy _entropy;
    private readonly TimeProvider _time;
    private readonly string _prefix;
    private readonly CopyFolder? _copies;
    private readonly NearStore? _near;
    private Action? _requireOwnership;

    internal CloudStore(ICloudRequests requests, string prefix, SpoolFolder? spool, CloudStoreOptions options)
    {
        _requests = requests;
        _prefix = prefix.Length == 0 ? "" : prefix + "/";
        _spool = spool;
        (_entropy, _time) = (options.Entropy, options.Time);
        _runner = new RequestRunner(requests.Location, options.Patience, options.Time, options.Entropy);
        if (spool is not null && options is { CopiesFolder: { } folder, CopiesBytesMax: > 0 } && CopyFolder.TryOpen(folder, options.CopiesBytesMax) is { } copies)
        {
            (_copies, _near) = (copies, new NearStore(this, copies));
        }
        Retention = options.Lock == ProviderLock.None ? null : new CloudRetention(requests, _prefix, _runner, options.Lock == ProviderLock.Compliance, RequireOwnership);
    }

    public string Location => _requests.Location;

    public StoreTraffic? Traffic => _requests.Traffic;

    public int PackBytesTarget => PackBytes;

    public IObjectStore Near => (IObjectStore?)_near ?? this;

    public IObjectRetention? Retention { get; }

    internal static CloudStore Open(ICloudRequests requests, string prefix, CloudStoreOptions options)
    {
        try
        {
            return new CloudStore(requests, prefix, options.SpoolFolder is { } folder ? SpoolFolder.Open(folder, options.SpoolFreeBytesMin, options.Entropy) : null, options);
        }
        catch
        {
            requests.Dispose();
            throw;
        }
    }

    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return ValueTask.FromResult<IObjectWriter>(CreateWriter(PublishAsync));
    }

    public async ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        cancellationToken.ThrowIfCancellationRequested();
        // Nothing is asked for, or what lies behind every possible end.
        if (destination.Length == 0 || offset > long.MaxValue - destination.Length)
        {
            return await FindAsync(key, cancellationToken) is null ? throw NotFound(key) : 0;
        }
        var reading = new RangeReading(_requests, _prefix + key, offset, destination);
        for (var damaged = 0; damaged < DamagedReadsMax; damaged++)
        {
            if (await _runner.RunAsync($"read {key}", destination.Length, token => ContinueAsync(reading, key, token), cancellationToken) is not { } count)
            {
                return 0;
            }
            if (reading.IsSound())
            {
                return count;
            }
            reading.Reset();
        }
        throw FaultException.Corrupt($"The object {key} of {Location} does not hold the bytes that were stored: {DamagedReadsMax} readings have another hash. Run 'virtbackup repository scrub'.");
    }

    /// <returns>Null: it begins behind the object's end.</returns>
    private async Task<int?> ContinueAsync(RangeReading reading, string key, CancellationToken cancellationToken)
    {
        try
        {
            return await reading.ContinueAsync(cancellationToken);
        }
        catch (CloudRequestException missing) when (missing.Kind == FailureKind.NotFound)
        {
            throw NotFound(key, missing);
        }
        catch (CloudRequestException behind) when (behind.Kind == FailureKind.BehindEnd)
        {
            return null;
        }
    }

    public async ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        cancellationToken.ThrowIfCancellationRequested();
        return await LookUpAsync(key, cancellationToken) is { } found ? new ObjectInfo(key, found.Length) : null;
    }

    public async IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        ObjectKey.RequirePrefix(prefix);
        string? continuation = null;
        do
        {
            cancellationToken.ThrowIfCancellationRequested();
            var from = continuation;
            var page = await _runner.RunAsync(prefix.Length == 0 ? "list objects" : $"list {prefix}", 0, token => _requests.ListAsync(_prefix + prefix, from, token), cancellationToken);
            foreach (var (name, length) in page.Objects)
            {
                var key = name[_prefix.Length..];
                if (ObjectKey.IsValid(key))
                {
                    yield return new ObjectInfo(key, length);
                }
            }
            continuation = page.Continuation;
        }
        while (continuation is not null);
    }

    public async ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        cancellationToken.ThrowIfCancellationRequested();
        RequireOwner();
        _copies?.Drop(key);
        await RunAsync(
            $"delete {key}",
            0,
            token =>
            {
                RequireOwnership(key);
                return _requests.DeleteAsync(_prefix + key, token);
            },
            cancellationToken);
        // S3 does not say whether there was something, and what others say may be about a second try.
        return true;
    }

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return ValueTask.FromResult<long?>(null);
    }

    public void Dispose()
    {
        _near?.Dispose();
        _requests.Dispose();
    }

    /// <summary>
    /// Asked before every single request that changes something, repetitions included; fails when this process may not change the store any
    /// more. Not before those of the lease itself.
    /// </summary>
    internal void GuardBy(Action requireOwnership) => _requireOwnership = requireOwnership;

    internal IObjectWriter CreateWriter(Func<string, SpooledContent, CancellationToken, ValueTask<bool>> publish) => new SpooledWriter(RequireOwner(), publish);

    /// <summary>The whole object, in the spool; the caller disposes it. Null: it is too long, or no hash proves it.</summary>
    internal async ValueTask<SpooledContent?> FetchAsync(string key, CancellationToken cancellationToken)
    {
        using var reading = new WholeReading(_requests, RequireOwner(), _prefix + key, Limits.PackBytesMax);
        return await _runner.RunAsync(
            $"read {key}",
            Limits.OnePutBytesMax,
            async token =>
            {
                try
                {
                    return await reading.ContinueAsync(token);
                }
                catch (CloudRequestException missing) when (missing.Kind == FailureKind.NotFound)
                {
                    throw NotFound(key, missing);
                }
            },
            cancellationToken);
    }

    internal async ValueTask<bool> PublishAsync(string key, SpooledContent content, CancellationToken cancellationToken)
    {
        var mark = new ObjectMark(Id16.Create(_entropy).ToString(), content.Finish());
        return content.Length <= _requests.SinglePutBytesMax
            ? await PutOnceAsync($"store {key}", key, mark, content.Length, token => _requests.PutAsync(_prefix + key, content, mark, token), cancellationToken)
            : await PutPartsAsync(key, content, mark, cancellationToken);
    }

    /// <summary>
    /// Runs the request that gives the name. Whenever its answer stayed out, or says that the name is taken, the object itself is asked
    /// whose it is: an earlier try may have come through.
    /// </summary>
    private async Task<bool> PutOnceAsync(string action, string key, ObjectMark mark, long bytes, Func<CancellationToken, Task> put, CancellationToken cancellationToken)
    {
        var isUnsure = false;
        return await _runner.RunAsync(
            action,
            bytes,
            async token =>
            {
                RequireOwnership(key);
                if (isUnsure && await _requests.FindAsync(_prefix + key, token) is { } earlier)
                {
                    return earlier.Mark?.Nonce == mark.Nonce;
                }
                isUnsure = true;
                try
                {
                    await put(token);
                    return true;
                }
                catch (CloudRequestException taken) when (taken.Kind == FailureKind.ConditionFailed)
                {
                    return await _requests.FindAsync(_prefix + key, token) is { } present
                        ? present.Mark?.Nonce == mark.Nonce
                        : throw new CloudRequestException(FailureKind.Passing, "the name was taken and is free again", taken);
                }
            },
            cancellationToken);
    }

    private async Task<bool> PutPartsAsync(string key, SpooledContent content, ObjectMark mark, CancellationToken cancellationToken)
    {
        // Long before the last part is sent, and the only protection where a provider does not know the condition for parts.
        if (await LookUpAsync(key, cancellationToken) is not null)
        {
            return false;
        }
        var name = _prefix + key;
        var id = await _runner.RunAsync(
            $"store {key}",
            0,
            token =>
            {
                RequireOwnership(key);
                return _requests.BeginPartsAsync(name, mark, token);
            },
            cancellationToken);
        var isDone = false;
        try
        {
            var parts = new List<string>();
            for (long offset = 0; offset < content.Length; offset += PartBytes)
            {
                var (from, length, number) = (offset, Math.Min(PartBytes, content.Length - offset), parts.Count + 1);
                parts.Add(await _runner.RunAsync(
                    $"store part {number} of {key}",
                    length,
                    token =>
                    {
                        RequireOwnership(key);
                        return _requests.PutPartAsync(name, id, number, content, from, length, token);
                    },
                    cancellationToken));
            }
            isDone = await PutOnceAsync($"complete {key}", key, mark, content.Length, token => _requests.CompletePartsAsync(name, id, parts, mark, token), cancellationToken);
            return isDone;
        }
        finally
        {
            if (!isDone)
            {
                await AbortAsync(name, id);
            }
        }
    }

    private async Task AbortAsync(string name, string id)
    {
        try
        {
            await RunAsync("drop parts", 0, token => _requests.AbortPartsAsync(name, id, token), CancellationToken.None);
        }
        catch (FaultException)
        {
            // They are dropped when the store is opened next; failing here would hide why the object was given up.
        }
    }

    /// <summary>Drops parts of packs that an earlier owner began long ago and did not complete. What else has parts in the bucket is not this store's.</summary>
    internal async Task DropPartsAsync(CancellationToken cancellationToken)
    {
        var left = await _runner.RunAsync("list unfinished objects", 0, token => _requests.ListPartsAsync(_prefix + PartsPrefix, token), cancellationToken);
        var before = _time.GetUtcNow() - s_partsAbandonedFor;
        foreach (var (name, id, begun) in left)
        {
            if (begun < before && name.StartsWith(_prefix + PartsPrefix, StringComparison.Ordinal) && ObjectKey.IsValid(name.AsSpan(_prefix.Length)))
            {
                await RunAsync("drop parts", 0, token => _requests.AbortPartsAsync(name, id, token), cancellationToken);
            }
        }
    }

    private void RequireOwnership(string key)
    {
        if (!key.StartsWith(StoreLease.Prefix, StringComparison.Ordinal))
        {
            _requireOwnership?.Invoke();
        }
    }

    private Task<CloudObject?> LookUpAsync(string key, CancellationToken cancellationToken) =>
        _runner.RunAsync($"look up {key}", 0, token => _requests.FindAsync(_prefix + key, token), cancellationToken);

    private async Task RunAsync(string action, long bytes, Func<CancellationToken, Task> attempt, CancellationToken cancellationToken) =>
        await _runner.RunAsync(
            action,
            bytes,
            async token =>
            {
                await attempt(token);
                return true;
            },
            cancellationToken);

    private SpoolFolder RequireOwner() => _spool
        ?? throw new FaultException(FaultReason.Denied, $"{char.ToUpperInvariant(Location[0])}{Location[1..]} was opened for reading only: open it as its owner to change it.");

    private FaultException NotFound(string key, Exception? inner = null) => new(FaultReason.NotFound, $"The object {key} is not in {Location}.", inner);
}

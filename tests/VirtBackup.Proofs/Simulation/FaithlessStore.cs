using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Format;

namespace VirtBackup.Proofs.Simulation;

/// <summary>Planted defects: a store that does not do all that it says.</summary>
internal sealed class FaithlessStore(IObjectStore inner) : IObjectStore
{
    private const int DroppedOneIn = 5;

    private string? _lastPack;
    private int _packs;

    /// <summary>It does not list the last of a machine's manifests.</summary>
    public bool OmitsManifest { get; init; }

    /// <summary>The pack that was read last goes when a manifest comes.</summary>
    public bool LosesPack { get; init; }

    /// <summary>It does not keep some of the packs that it is given.</summary>
    public bool DropsPacks { get; init; }

    public async ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken) => new Writer(this, await inner.CreateAsync(cancellationToken));

    public ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        _lastPack = ObjectKeys.TryParsePack(key, out _) ? key : _lastPack;
        return inner.ReadAsync(key, offset, destination, cancellationToken);
    }

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken) => inner.FindAsync(key, cancellationToken);

    public async IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        ObjectInfo? held = null;
        await foreach (var info in inner.ListAsync(prefix, cancellationToken))
        {
            if (!OmitsManifest || !ObjectKeys.TryParseManifest(info.Key, out _, out _))
            {
                yield return info;
                continue;
            }
            if (held is { } before)
            {
                yield return before;
            }
            held = info;
        }
    }

    public ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken) => inner.DeleteAsync(key, cancellationToken);

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => inner.GetFreeBytesAsync(cancellationToken);

    private sealed class Writer(FaithlessStore store, IObjectWriter writer) : IObjectWriter
    {
        public long Length => writer.Length;

        public ValueTask WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken) => writer.WriteAsync(source, cancellationToken);

        public async ValueTask<bool> PublishAsync(string key, CancellationToken cancellationToken)
        {
            if (store is { LosesPack: true, _lastPack: { } pack } && ObjectKeys.TryParseManifest(key, out _, out _))
            {
                await store.DeleteAsync(pack, cancellationToken);
            }
            if (store.DropsPacks && ObjectKeys.TryParsePack(key, out _) && ++store._packs % DroppedOneIn == 0)
            {
                return true;
            }
            return await writer.PublishAsync(key, cancellationToken);
        }

        public ValueTask DisposeAsync() => writer.DisposeAsync();
    }
}

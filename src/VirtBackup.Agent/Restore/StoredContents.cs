using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Restore;

/// <summary>Fetches the small memories of a stored machine; each chunk is proven as a disk's is.</summary>
internal sealed class StoredContents(StoredPoint stored, Func<ManifestStream, MapReader> readerOf)
{
    /// <param name="source">Where to fetch from; null: contents stay empty, for a check that needs to know only which there are.</param>
    public async Task<IReadOnlyList<MachineContent>> ReadAsync(RestoreSource? source, CancellationToken cancellationToken)
    {
        var contents = new List<MachineContent>();
        foreach (var stream in stored.Manifest.Head.Streams.Where(stream => stream.Kind is StreamKind.Nvram or StreamKind.Tpm))
        {
            if (stream.Geometry.StreamLength > MachineContent.BytesMax)
            {
                throw FaultException.Malformed($"The recovery point holds {stream.Geometry.StreamLength} bytes of the machine's {stream.Kind}; at most {MachineContent.BytesMax} are restored.");
            }
            var name = stored.Body.Streams.FirstOrDefault(candidate => Id16.Parse(candidate.Id) == stream.Id)?.Name
                ?? throw FaultException.Corrupt($"The recovery point does not describe its stream {stream.Id}.");
            var target = new MemoryTarget(new RestoreDisk(stream.Id, name, stream.Geometry.StreamLength, "raw", stream.Geometry.StreamLength), source is null);
            if (source is not null)
            {
                await new DiskRestore(source, stream.Id, readerOf(stream).PlanAsync, target, stream.Geometry.Shape, new RunProgress()).RunAsync(cancellationToken);
            }
            contents.Add(new MachineContent(stream.Id, name, stream.Kind == StreamKind.Nvram ? MachineContentKind.Nvram : MachineContentKind.Tpm, target.Content));
        }
        return contents;
    }

    private sealed class MemoryTarget(RestoreDisk disk, bool empty) : IRestoredDisk
    {
        public RestoreDisk Disk => disk;

        public byte[] Content { get; } = new byte[empty ? 0 : disk.LengthBytes];

        public ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
        {
            source.CopyTo(Content.AsMemory((int)offset));
            return ValueTask.CompletedTask;
        }
    }
}

using VirtBackup.Core;

namespace VirtBackup.Testing.Platforms;

/// <summary>Where a server keeps disks of restored machines. Not safe for concurrent use: the link serialises.</summary>
public sealed class MemoryDatastore
{
    private readonly Dictionary<string, byte[]> files = new(StringComparer.Ordinal);
    private readonly Dictionary<string, IReadOnlyList<string>> machines = new(StringComparer.Ordinal);

    public long FreeBytes { get; set; } = 1 << 30;

    public IReadOnlyCollection<string> Files => files.Keys;

    public IReadOnlyCollection<string> Machines => machines.Keys;

    public byte[] Read(string path) => files[path];

    public void Create(string path, long length)
    {
        if (length > FreeBytes)
        {
            throw new FaultException(FaultReason.DeviceFull, $"The datastore has no room for {path}.");
        }
        if (!files.TryAdd(path, new byte[length]))
        {
            throw new FaultException(FaultReason.AlreadyExists, $"{path} exists.");
        }
        FreeBytes -= length;
    }

    public void Write(string path, long offset, ReadOnlySpan<byte> data) => data.CopyTo(files[path].AsSpan((int)offset));

    public void Delete(string path)
    {
        if (files.Remove(path, out var content))
        {
            FreeBytes += content.Length;
        }
    }

    public void Register(string name, IReadOnlyList<string> disks)
    {
        if (!machines.TryAdd(name, disks))
        {
            throw new FaultException(FaultReason.AlreadyExists, $"A machine {name} exists.");
        }
    }

    public void Unregister(string name) => machines.Remove(name);
}

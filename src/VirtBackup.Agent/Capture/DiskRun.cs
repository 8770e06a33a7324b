using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Capture;

/// <summary>One disk, or small memory, of a backup run.</summary>
internal sealed class DiskRun(ICapturedDisk source, StreamKind kind, MapGeometry geometry, MapAssembler map)
{
    private long _bytesRead, _bytesSent;

    public ICapturedDisk Source => source;

    public StreamKind Kind => kind;

    public MapGeometry Geometry => geometry;

    public MapAssembler Map => map;

    public long BytesRead => Interlocked.Read(ref _bytesRead);

    /// <summary>Of its chunks, sealed: what the repository did not have.</summary>
    public long BytesSent => Interlocked.Read(ref _bytesSent);

    public void CountSent(int bytes) => Interlocked.Add(ref _bytesSent, bytes);

    public void CountRead(int bytes) => Interlocked.Add(ref _bytesRead, bytes);
}

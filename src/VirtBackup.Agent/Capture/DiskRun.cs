using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Capture;

/// <summary>One disk of a backup run.</summary>
internal sealed class DiskRun(ICapturedDisk source, MapGeometry geometry, MapAssembler map)
{
    private long _bytesRead;

    public ICapturedDisk Source => source;

    public MapGeometry Geometry => geometry;

    public MapAssembler Map => map;

    public long BytesRead => Interlocked.Read(ref _bytesRead);

    public void CountRead(int bytes) => Interlocked.Add(ref _bytesRead, bytes);
}

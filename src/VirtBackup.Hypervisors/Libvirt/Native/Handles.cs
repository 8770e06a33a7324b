using System.Runtime.InteropServices;

namespace VirtBackup.Hypervisors.Libvirt.Native;

/// <summary>A reference that libvirt counts; released once, and never while a call uses it.</summary>
internal abstract class LibvirtHandle : SafeHandle
{
    protected LibvirtHandle()
        : base(invalidHandleValue: 0, ownsHandle: true)
    {
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>Takes over a reference that libvirt gave away in an array.</summary>
    public void Adopt(nint reference) => SetHandle(reference);
}

internal sealed class ConnectionHandle : LibvirtHandle
{
    protected override bool ReleaseHandle() => LibvirtCalls.CloseConnection(handle) >= 0;
}

internal sealed class DomainHandle : LibvirtHandle
{
    protected override bool ReleaseHandle() => LibvirtCalls.FreeDomain(handle) >= 0;
}

internal sealed class CheckpointHandle : LibvirtHandle
{
    protected override bool ReleaseHandle() => LibvirtCalls.FreeCheckpoint(handle) >= 0;
}

internal sealed class NetworkHandle : LibvirtHandle
{
    protected override bool ReleaseHandle() => LibvirtCalls.FreeNetwork(handle) >= 0;
}

internal sealed class PoolHandle : LibvirtHandle
{
    protected override bool ReleaseHandle() => LibvirtCalls.FreePool(handle) >= 0;
}

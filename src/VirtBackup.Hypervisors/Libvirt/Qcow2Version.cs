using System.Buffers.Binary;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>The version in a qcow2 image's header (QEMU, docs/interop/qcow2): version 2 has no room for bitmaps.</summary>
internal static class Qcow2Version
{
    /// <summary>False only when the image is certainly too old; what cannot be read is left to libvirt to judge.</summary>
    public static bool MayKeepBitmaps(string? path)
    {
        Span<byte> head = stackalloc byte[8];
        try
        {
            using var file = File.OpenHandle(path ?? "", share: FileShare.ReadWrite);
            return RandomAccess.Read(file, head, 0) < head.Length || !head.StartsWith("QFI\xfb"u8[..3]) || BinaryPrimitives.ReadUInt32BigEndian(head[4..]) >= 3;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return true;
        }
    }
}

using System.Buffers.Binary;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A file that libvirt saves a machine's running state to (libvirt src/qemu/qemu_saveimage.h): header, definition, and QEMU's stream.</summary>
internal static class SaveImage
{
    private const int HeaderBytes = 92;
    private const int DefinitionBytesMax = 900 << 10;

    // While it is written it begins otherwise.
    private static ReadOnlySpan<byte> Magic => "LibvirtQemudSave"u8;

    /// <summary>Whether the file is there and was written to its end.</summary>
    public static bool IsComplete(string path)
    {
        try
        {
            return ReadHeader(path).AsSpan().StartsWith(Magic);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>Where QEMU's stream begins.</summary>
    /// <exception cref="FaultException">It is not complete, of another version, or compressed.</exception>
    public static long FindStream(string path)
    {
        byte[] header;
        try
        {
            header = ReadHeader(path);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The running state that libvirt saved to {path} cannot be read: {failure.Message}", failure);
        }
        if (!header.AsSpan().StartsWith(Magic) || BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(16)) is not (1 or 2)
            || BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(20)) is not (> 0 and <= DefinitionBytesMax and var length))
        {
            throw FaultException.Malformed("What libvirt saved is not a running state that can be read.");
        }
        return BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(28)) == 0 ? HeaderBytes + (long)length
            : throw new FaultException(FaultReason.Unsupported, "libvirt compresses what it saves, so that it could not be told what changed. Set 'save_image_format = \"raw\"' in qemu.conf, or back up without the running state.");
    }

    private static byte[] ReadHeader(string path)
    {
        using var file = File.OpenHandle(path, share: FileShare.ReadWrite | FileShare.Delete);
        var header = new byte[HeaderBytes];
        for (var at = 0; at < header.Length;)
        {
            var count = RandomAccess.Read(file, header.AsSpan(at), at);
            at += count > 0 ? count : throw new IOException("It is shorter than its header.");
        }
        return header;
    }
}

using System.Buffers.Binary;
using System.Security.Cryptography;

namespace VirtBackup.Testing.Lab;

/// <summary>What a disk image holds, as a hash that passes over zeros quickly: most of a disk is zeros.</summary>
public static class DiskContent
{
    private const int BlockBytes = 64 << 10;

    /// <summary>SHA-256, lower-case hex, of the length and of every block that is not zero, each with its offset.</summary>
    /// <param name="inUse">The image is open in a running VM.</param>
    public static async Task<string> HashAsync(string path, LabDiskFormat format, bool inUse = false)
    {
        using var scratch = new LabDirectory();
        var raw = path;
        if (format != LabDiskFormat.Raw)
        {
            raw = scratch.File("content.raw");
            await LabDisk.ConvertAsync(path, format, raw, LabDiskFormat.Raw, inUse);
        }
        return HashRaw(raw);
    }

    private static string HashRaw(string path)
    {
        using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var block = new byte[sizeof(long) + BlockBytes];
        var length = RandomAccess.GetLength(file);
        BinaryPrimitives.WriteInt64LittleEndian(block, length);
        hash.AppendData(block, 0, sizeof(long));
        for (long offset = 0; offset < length;)
        {
            var read = RandomAccess.Read(file, block.AsSpan(sizeof(long)), offset);
            if (read == 0) throw new LabException($"{path} became shorter while it was read.");
            if (block.AsSpan(sizeof(long), read).ContainsAnyExcept((byte)0))
            {
                BinaryPrimitives.WriteInt64LittleEndian(block, offset);
                hash.AppendData(block, 0, sizeof(long) + read);
            }
            offset += read;
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}

using System.Security.Cryptography;

namespace VirtBackup.Testing.Lab;

/// <summary>How a disk image keeps its content.</summary>
public enum LabDiskFormat
{
    Qcow2,
    Raw,
}

/// <summary>Makes, converts and compares disk images with qemu-img.</summary>
public static class LabDisk
{
    private const int BufferBytes = 1 << 20;

    public static string NameOf(LabDiskFormat format) => format == LabDiskFormat.Raw ? "raw" : "qcow2";

    /// <summary>An image that reads as zeros.</summary>
    /// <param name="size">Bytes.</param>
    public static Task CreateAsync(string path, LabDiskFormat format, long size, CancellationToken cancellationToken = default) =>
        Proc.CheckAsync("qemu-img", ["create", "-q", "-f", NameOf(format), path, $"{size}"], cancellationToken: cancellationToken);

    /// <summary>An image whose whole content is the random bytes of a seed.</summary>
    public static async Task CreateRandomAsync(
        string path, LabDiskFormat format, long size, int seed, CancellationToken cancellationToken = default)
    {
        var raw = format == LabDiskFormat.Raw ? path : path + ".raw";
        await CreateAsync(raw, LabDiskFormat.Raw, size, cancellationToken);
        await FillAsync(raw, 0, size, seed, cancellationToken);
        if (raw == path) return;
        await ConvertAsync(raw, LabDiskFormat.Raw, path, format, cancellationToken: cancellationToken);
        File.Delete(raw);
    }

    /// <summary>Writes the random bytes of a seed over a range of a raw image (or any file).</summary>
    public static async Task FillAsync(string rawPath, long offset, long length, int seed, CancellationToken cancellationToken = default)
    {
        var random = new Random(seed);
        var buffer = new byte[BufferBytes];
        await using var file = new FileStream(rawPath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
        file.Position = offset;
        for (var left = length; left > 0;)
        {
            var part = buffer.AsMemory(0, (int)Math.Min(left, buffer.Length));
            random.NextBytes(part.Span);
            await file.WriteAsync(part, cancellationToken);
            left -= part.Length;
        }
    }

    /// <summary>Copies an image's content into a new image.</summary>
    /// <param name="inUse">The source is open in a running VM: read it without QEMU's image lock.</param>
    public static Task ConvertAsync(
        string source, LabDiskFormat sourceFormat, string target, LabDiskFormat targetFormat, bool inUse = false,
        CancellationToken cancellationToken = default)
    {
        List<string> arguments = ["convert", "-f", NameOf(sourceFormat), "-O", NameOf(targetFormat), source, target];
        if (inUse) arguments.Insert(1, "-U");
        return Proc.CheckAsync("qemu-img", arguments, TimeSpan.FromMinutes(5), cancellationToken);
    }

    /// <summary>Whether two images have equal content; an image's size counts unless the rest is zeros.</summary>
    /// <exception cref="LabException">One of them could not be read.</exception>
    public static async Task<bool> ContentEqualsAsync(
        string left, LabDiskFormat leftFormat, string right, LabDiskFormat rightFormat, bool inUse = false,
        CancellationToken cancellationToken = default)
    {
        List<string> arguments = ["compare", "-q", "-f", NameOf(leftFormat), "-F", NameOf(rightFormat), left, right];
        if (inUse) arguments.Insert(1, "-U");
        var result = await Proc.RunAsync("qemu-img", arguments, TimeSpan.FromMinutes(5), cancellationToken: cancellationToken);
        return result.ExitCode switch
        {
            0 => true,
            1 => false,
            _ => throw new LabException($"'{result.Command}' could not compare: {result.Stderr}{result.Stdout}"),
        };
    }

    /// <summary>SHA-256, lower-case hex, of the content that a guest would read from the image.</summary>
    public static async Task<string> Sha256Async(
        string path, LabDiskFormat format, bool inUse = false, CancellationToken cancellationToken = default)
    {
        var raw = path;
        using var scratch = new LabDirectory();
        if (format != LabDiskFormat.Raw)
        {
            raw = scratch.File("content.raw");
            await ConvertAsync(path, format, raw, LabDiskFormat.Raw, inUse, cancellationToken);
        }
        await using var file = new FileStream(raw, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, BufferBytes);
        return Convert.ToHexStringLower(await SHA256.HashDataAsync(file, cancellationToken));
    }
}

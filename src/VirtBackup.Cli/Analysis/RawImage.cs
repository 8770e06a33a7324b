using Microsoft.Win32.SafeHandles;

namespace VirtBackup.Cli.Analysis;

/// <summary>A raw disk image, open for reading.</summary>
internal sealed class RawImage : IDisposable
{
    private RawImage(string path, SafeFileHandle file, long length) => (Path, File, Length) = (path, file, length);

    public string Path { get; }

    public SafeFileHandle File { get; }

    /// <summary>Bytes.</summary>
    public long Length { get; }

    /// <exception cref="CommandFault">There is no such file, it is empty, or it has another format than raw.</exception>
    public static RawImage Open(string path)
    {
        if (!System.IO.File.Exists(path))
        {
            throw Directory.Exists(path)
                ? CommandFault.Usage($"'{path}' is a folder.", "name the image files in it")
                : new CommandFault(ExitCode.NotFound, $"The image '{path}' does not exist.");
        }
        var file = System.IO.File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, FileOptions.Asynchronous | FileOptions.SequentialScan);
        try
        {
            var length = RandomAccess.GetLength(file);
            if (length == 0)
            {
                throw new CommandFault(ExitCode.Refused, $"The image '{path}' is empty or not a plain file.");
            }
            Span<byte> head = stackalloc byte[8];
            if (FormatOf(head[..RandomAccess.Read(file, head, 0)]) is { } format)
            {
                throw new CommandFault(
                    ExitCode.Refused, $"'{path}' is an image in the format {format}; only raw images are analysed.", $"qemu-img convert -O raw '{path}' '{path}.raw'");
            }
            return new RawImage(path, file, length);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public void Dispose() => File.Dispose();

    /// <summary>By the first bytes (QEMU's docs/interop/qcow2.txt; VMware's Virtual Disk Format 5.0; MS-VHDX); null: raw.</summary>
    private static string? FormatOf(ReadOnlySpan<byte> head) =>
        head.StartsWith("QFI"u8) && head is [_, _, _, 0xfb, ..] ? "qcow2"
        : head.StartsWith("KDMV"u8) ? "vmdk"
        : head.StartsWith("vhdxfile"u8) ? "vhdx"
        : null;
}

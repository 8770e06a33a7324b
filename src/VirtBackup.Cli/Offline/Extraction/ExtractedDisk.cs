using Microsoft.Win32.SafeHandles;

namespace VirtBackup.Cli.Offline.Extraction;

/// <summary>A raw, sparse image that has its name only when it is whole and durable. Writes may run concurrently.</summary>
internal sealed class ExtractedDisk : IDisposable
{
    private const string Unfinished = ".partial";

    private readonly SafeFileHandle _file;
    private bool _isFinished;

    private ExtractedDisk(string path, SafeFileHandle file)
    {
        Path = path;
        _file = file;
    }

    public string Path { get; }

    /// <param name="path">Must not exist.</param>
    /// <param name="length">Bytes of the disk.</param>
    public static ExtractedDisk Create(string path, long length)
    {
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.ReadWrite };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }
        using (new FileStream(path + Unfinished, options))
        {
        }
        var file = File.OpenHandle(path + Unfinished, FileMode.Open, FileAccess.ReadWrite, FileShare.Read, FileOptions.Asynchronous);
        RandomAccess.SetLength(file, length);
        return new ExtractedDisk(path, file);
    }

    public ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken) =>
        RandomAccess.WriteAsync(_file, bytes, offset, cancellationToken);

    public void Finish()
    {
        RandomAccess.FlushToDisk(_file);
        _file.Dispose();
        File.Move(Path + Unfinished, Path);
        _isFinished = true;
    }

    public void Dispose()
    {
        _file.Dispose();
        if (!_isFinished)
        {
            File.Delete(Path + Unfinished);
        }
    }
}

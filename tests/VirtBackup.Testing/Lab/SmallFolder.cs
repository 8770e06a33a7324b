namespace VirtBackup.Testing.Lab;

/// <summary>A file system of its own and of little size, in memory. Mounting it takes root.</summary>
public sealed class SmallFolder : IAsyncDisposable
{
    private readonly LabDirectory? _directory;

    private SmallFolder(string? path)
    {
        _directory = path is null ? new LabDirectory() : null;
        Path = path ?? _directory!.Path;
    }

    public string Path { get; }

    private string Ballast => System.IO.Path.Combine(Path, "ballast");

    /// <param name="mebibytes">Its size.</param>
    /// <param name="path">A folder to cover; null: one of its own.</param>
    public static async Task<SmallFolder> MountAsync(int mebibytes, string? path = null)
    {
        var folder = new SmallFolder(path);
        try
        {
            await Proc.CheckAsync("mount", ["-t", "tmpfs", "-o", $"size={mebibytes}m", "virtbackup-test", folder.Path]);
            return folder;
        }
        catch
        {
            folder._directory?.Dispose();
            throw;
        }
    }

    public Task<string> ResizeAsync(int mebibytes) => Proc.CheckAsync("mount", ["-o", $"remount,size={mebibytes}m", Path]);

    /// <summary>Writes a file until nothing more fits.</summary>
    public void Fill()
    {
        using var ballast = new FileStream(Ballast, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0);
        foreach (var size in new[] { 1 << 20, 4096 })
        {
            var block = new byte[size];
            try
            {
                while (true) ballast.Write(block);
            }
            catch (IOException)
            {
                // Full, but for less than a block.
            }
        }
    }

    /// <summary>Fills it as a busy guest might: about 100 MiB a second.</summary>
    public async Task FillGraduallyAsync()
    {
        await using (var ballast = new FileStream(Ballast, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0))
        {
            try
            {
                for (var block = new byte[1 << 20]; ;)
                {
                    await ballast.WriteAsync(block);
                    await Task.Delay(10);
                }
            }
            catch (IOException)
            {
                // Full, but for less than a block.
            }
        }
    }

    /// <summary>Takes back <see cref="Fill"/>.</summary>
    public void Relieve() => File.Delete(Ballast);

    public async ValueTask DisposeAsync()
    {
        await Proc.CheckAsync("umount", ["--lazy", Path]);
        _directory?.Dispose();
    }
}

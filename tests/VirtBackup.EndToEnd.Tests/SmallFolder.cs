using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>A file system of its own and of little size, in memory. Mounting it takes root.</summary>
internal sealed class SmallFolder : IAsyncDisposable
{
    private readonly LabDirectory _directory = new();

    public string Path => _directory.Path;

    private string Ballast => System.IO.Path.Combine(Path, "ballast");

    public static async Task<SmallFolder> MountAsync(int mebibytes)
    {
        var folder = new SmallFolder();
        try
        {
            await Proc.CheckAsync("mount", ["-t", "tmpfs", "-o", $"size={mebibytes}m", "virtbackup-test", folder.Path]);
            return folder;
        }
        catch
        {
            folder._directory.Dispose();
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

    /// <summary>Takes back <see cref="Fill"/>.</summary>
    public void Relieve() => File.Delete(Ballast);

    public async ValueTask DisposeAsync()
    {
        await Proc.CheckAsync("umount", ["--lazy", Path]);
        _directory.Dispose();
    }
}

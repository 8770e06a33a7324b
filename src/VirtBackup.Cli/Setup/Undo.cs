using VirtBackup.CloudStores;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Repository;

namespace VirtBackup.Cli.Setup;

/// <summary>
/// What a setup has made so far. Unless <see cref="Keep"/> is called, disposal removes exactly that, newest first: nothing is
/// left half-done, and nothing is removed that was there before.
/// </summary>
internal sealed class Undo : IDisposable
{
    private readonly Stack<Action> _steps = new();

    /// <summary>What could not be removed, for the report.</summary>
    public List<string> Leftovers { get; } = [];

    /// <summary>Creates the folder and the folders above it that are missing, each with mode 0700.</summary>
    /// <exception cref="CommandFault">One of them cannot be created.</exception>
    public void CreateFolder(string path)
    {
        var missing = new Stack<string>();
        for (var folder = Path.GetFullPath(path); !Directory.Exists(folder); folder = Path.GetDirectoryName(folder)!)
        {
            missing.Push(folder);
        }
        foreach (var folder in missing)
        {
            try
            {
                OwnerFiles.CreateFolder(folder);
            }
            catch (Exception failed) when (failed is IOException or UnauthorizedAccessException)
            {
                throw new CommandFault(
                    failed is UnauthorizedAccessException ? ExitCode.Refused : ExitCode.Failed, $"The folder '{path}' cannot be created: '{folder}' is refused ({failed.Message.TrimEnd('.')}).",
                    "choose a folder below one that you may write to, or run this as root", failed);
            }
            _steps.Push(() => Remove(folder, static path => Directory.Delete(path)));
        }
    }

    /// <summary>Creates a file that is not there yet.</summary>
    public void WriteFile(string path, ReadOnlySpan<byte> content)
    {
        OwnerFiles.Create(path, content);
        RemoveFile(path);
    }

    /// <summary>A file that others are about to make.</summary>
    public void RemoveFile(string path) => _steps.Push(() => Remove(path, File.Delete));

    /// <summary>Everything in a folder that was empty, or not there, before.</summary>
    public void EmptyFolder(string path) => _steps.Push(() =>
    {
        if (!Directory.Exists(path))
        {
            return;
        }
        foreach (var entry in new DirectoryInfo(path).EnumerateFileSystemInfos())
        {
            Remove(entry.FullName, full =>
            {
                if (entry is DirectoryInfo { LinkTarget: null })
                {
                    Directory.Delete(full, recursive: true);
                }
                else
                {
                    File.Delete(full);
                }
            });
        }
    });

    /// <summary>A new repository in a store, and nothing that anybody else has there meanwhile.</summary>
    public void RemoveRepository(StoreLocation location, RepositoryHead head) => _steps.Push(() =>
    {
        try
        {
            RemoveRepositoryAsync(location, head).GetAwaiter().GetResult();
        }
        catch (FaultException)
        {
            Leftovers.Add(location.Text);
        }
    });

    /// <summary>All went well: nothing is removed.</summary>
    public void Keep() => _steps.Clear();

    public void Dispose()
    {
        while (_steps.TryPop(out var step))
        {
            step();
        }
    }

    private static async Task RemoveRepositoryAsync(StoreLocation location, RepositoryHead head)
    {
        using var spool = new SetupSpool();
        await using var opened = await StoreOpener.OpenOwnedAsync(location, spool.OwnerWith(SystemEntropy.Instance, onWait: null), CancellationToken.None);
        await RepositoryInitializer.RemoveAsync(opened.Store, head, CancellationToken.None);
    }

    private void Remove(string path, Action<string> remove)
    {
        try
        {
            remove(path);
        }
        catch (Exception failed) when (failed is IOException or UnauthorizedAccessException)
        {
            Leftovers.Add(path);
        }
    }
}

using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Images;

/// <summary>The images of a restore into a folder of its own. Disposed before <see cref="Keep"/>, nothing of them is left.</summary>
internal sealed class NewImages : IAsyncDisposable
{
    private readonly string folder;
    private readonly bool folderExisted;
    private readonly IReadOnlyList<string> own;
    private readonly List<ImageWriter> disks = [];
    private bool kept;

    private NewImages(string folder, IReadOnlyList<string> own)
    {
        this.folder = folder;
        this.own = own;
        folderExisted = Directory.Exists(folder);
    }

    /// <summary>In the order of the request.</summary>
    public IReadOnlyList<ImageWriter> Disks => disks;

    /// <summary>All files that images make in their folder.</summary>
    public static IEnumerable<string> ListFiles(RestoreRequest request, IReadOnlyList<string> paths) =>
        paths.SelectMany((path, i) => new[] { path, SocketOf(request, i) });

    /// <param name="paths">Where each disk of the request goes, in its order.</param>
    /// <param name="others">What else of the machine is made in the folder: files; with a slash at their end, folders with all that is in them.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the folder cannot be used.</exception>
    public static async Task<NewImages> CreateAsync(RestoreRequest request, IReadOnlyList<string> paths, IEnumerable<string> others, ImageTools tools, CancellationToken cancellationToken)
    {
        var images = new NewImages(request.Folder, [.. ListFiles(request, paths), .. others]);
        try
        {
            PrivateFolder.Create(request.Folder);
            for (var i = 0; i < request.Disks.Count; i++)
            {
                images.disks.Add(await ImageWriter.CreateAsync(
                    request.Disks[i], paths[i], SocketOf(request, i), request.Preallocation, tools, cancellationToken));
            }
            return images;
        }
        catch (Exception failure)
        {
            await images.DisposeAsync();
            throw failure is IOException or UnauthorizedAccessException
                ? new FaultException(FaultReason.FailedPrecondition, $"The folder {request.Folder} cannot be used: {failure.Message}", failure)
                : failure;
        }
    }

    private static string SocketOf(RestoreRequest request, int disk) => Path.Combine(request.Folder, $"image-{disk}.sock");

    /// <summary>Makes all images durable and gives them their names.</summary>
    public async ValueTask FinishAsync(CancellationToken cancellationToken)
    {
        foreach (var disk in disks)
        {
            await disk.FinishAsync(cancellationToken);
        }
    }

    /// <summary>Forces the folder and its name to stable storage.</summary>
    public void Flush()
    {
        DurableFolder.Flush(folder);
        DurableFolder.Flush(Path.GetDirectoryName(folder.TrimEnd('/'))!);
    }

    /// <summary>The restore is complete: everything stays.</summary>
    public void Keep() => kept = true;

    public async ValueTask DisposeAsync()
    {
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        if (kept || !Directory.Exists(folder))
        {
            return;
        }
        // Somebody may have put a machine of theirs beside, or beneath.
        _ = folderExisted ? MachineFolder.Clear(folder, own, []) : MachineFolder.Delete(folder, own, []);
    }
}

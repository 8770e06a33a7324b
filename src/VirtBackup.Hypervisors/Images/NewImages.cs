using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>The images of a restore into a folder of its own. Disposed before <see cref="Keep"/>, nothing of them is left.</summary>
internal sealed class NewImages : IAsyncDisposable
{
    private readonly string folder;
    private readonly bool folderExisted;
    private readonly List<ImageWriter> disks = [];
    private bool kept;

    private NewImages(string folder)
    {
        this.folder = folder;
        folderExisted = Directory.Exists(folder);
    }

    /// <summary>In the order of the request.</summary>
    public IReadOnlyList<ImageWriter> Disks => disks;

    /// <param name="paths">Where each disk of the request goes, in its order.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the folder cannot be used.</exception>
    public static async Task<NewImages> CreateAsync(RestoreRequest request, IReadOnlyList<string> paths, ImageTools tools, CancellationToken cancellationToken)
    {
        var images = new NewImages(request.Folder);
        try
        {
            PrivateFolder.Create(request.Folder);
            for (var i = 0; i < request.Disks.Count; i++)
            {
                images.disks.Add(await ImageWriter.CreateAsync(
                    request.Disks[i], paths[i], Path.Combine(request.Folder, $"image-{i}.sock"), request.Preallocation, tools, cancellationToken));
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
        if (!folderExisted)
        {
            Directory.Delete(folder, recursive: true);
            return;
        }
        // It was empty: all that is there is ours.
        foreach (var left in Directory.EnumerateFiles(folder))
        {
            File.Delete(left);
        }
        foreach (var left in Directory.EnumerateDirectories(folder))
        {
            Directory.Delete(left, recursive: true);
        }
    }
}

using System.Globalization;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Writes a new disk image under a temporary name. Raw images are written here and stay sparse; qcow2 images through
/// a qemu-nbd process of their own, which ends with its only connection.
/// </summary>
internal sealed class ImageWriter : IRestoredDisk, IAsyncDisposable
{
    internal const string PartialSuffix = ".partial";
    private const int ErrnoNoSpace = 28;
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromMinutes(10);
    private readonly string path;
    // Writers of one file would only spin on its lock in the kernel.
    private readonly SemaphoreSlim writing = new(1);
    private SafeFileHandle? file;
    private UncachedFile? uncached;
    private EarlyWriteBack? writeBack;
    private ImageServer? server;

    private ImageWriter(RestoreDisk disk, string path)
    {
        Disk = disk;
        this.path = path;
    }

    public RestoreDisk Disk { get; }

    /// <summary>Where the finished image is.</summary>
    public string Path => path;

    /// <summary>The name that the image at <paramref name="path"/> has until it is finished.</summary>
    public static string UnfinishedPath(string path) => path + PartialSuffix;

    /// <param name="path">The image's final path; until <see cref="FinishAsync"/> it has another name.</param>
    /// <param name="socket">A path for the image server's socket, in a private folder.</param>
    public static async Task<ImageWriter> CreateAsync(
        RestoreDisk disk, string path, string socket, DiskPreallocation preallocation, ImageTools tools, CancellationToken cancellationToken)
    {
        var reserve = preallocation switch
        {
            DiskPreallocation.Full => "falloc",
            DiskPreallocation.Metadata when disk.Format == "qcow2" => "metadata",
            _ => "off",
        };
        await new ProcessRunner(tools.Time).RequireAsync(tools.QemuImg,
            ["create", "-q", "-f", disk.Format, "-o", $"preallocation={reserve}", path + PartialSuffix, disk.LengthBytes.ToString(CultureInfo.InvariantCulture)],
            ToolTimeout, cancellationToken);
        var writer = new ImageWriter(disk, path);
        try
        {
            if (disk.Format == "raw")
            {
                writer.file = File.OpenHandle(path + PartialSuffix, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, FileOptions.Asynchronous);
                // qemu-img rounds a raw image up to whole sectors; the disk has its true length.
                RandomAccess.SetLength(writer.file, disk.LengthBytes);
                writer.uncached = UncachedFile.TryOpen(path + PartialSuffix);
                writer.writeBack = new EarlyWriteBack(writer.file);
            }
            else
            {
                var options = new NbdClientOptions { RequestsInFlightMax = tools.RequestsInFlight, TimeProvider = tools.Time };
                writer.server = await ImageServer.StartAsync(tools.QemuNbd, path + PartialSuffix, disk.Format, socket, writable: true, options, tools.Time, cancellationToken);
            }
            return writer;
        }
        catch
        {
            await writer.DisposeAsync();
            throw;
        }
    }

    public async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        if (offset < 0 || offset > Disk.LengthBytes - source.Length)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"{source.Length} bytes at {offset} do not lie within disk {Disk.Name} of {Disk.LengthBytes} bytes.");
        }
        try
        {
            if (file is null)
            {
                await Client.WriteAsync(offset, source, cancellationToken);
                return;
            }
            if (uncached is not null && await uncached.TryWriteAsync(offset, source, cancellationToken))
            {
                return;
            }
            await writing.WaitAsync(cancellationToken);
            try
            {
                await RandomAccess.WriteAsync(file, source, offset, cancellationToken);
            }
            finally
            {
                writing.Release();
            }
            writeBack?.Note(source.Length);
        }
        catch (Exception failure) when (failure is IOException or NbdErrorException)
        {
            throw Translate(failure);
        }
    }

    /// <summary>Makes the image durable and gives it its name; the folder's entry is for the caller to flush.</summary>
    public async Task FinishAsync(CancellationToken cancellationToken)
    {
        try
        {
            if (server is not null)
            {
                await server.Client.FlushAsync(cancellationToken);
                await server.CloseAsync(cancellationToken);
                await server.DisposeAsync();
                server = null;
            }
            uncached?.Dispose();
            using (var image = file ?? File.OpenHandle(path + PartialSuffix, FileMode.Open, FileAccess.ReadWrite))
            {
                file = null;
                RandomAccess.FlushToDisk(image);
            }
            File.Move(path + PartialSuffix, path);
        }
        catch (Exception failure) when (failure is IOException or NbdErrorException)
        {
            throw Translate(failure);
        }
    }

    private NbdClient Client => server?.Client ?? throw new FaultException(FaultReason.FailedPrecondition, $"Disk {Disk.Name} is complete and takes no more data.");

    private FaultException Translate(Exception failure)
    {
        // The low word of the HResult that .NET gives file errors is the errno.
        var full = failure is NbdErrorException { Error: NbdError.NoSpace } || (failure is IOException && (failure.HResult & 0xffff) == ErrnoNoSpace)
            || failure.Message.Contains("No space left", StringComparison.Ordinal);
        return full
            ? new FaultException(FaultReason.DeviceFull, $"There is no space left for disk {Disk.Name} at {path}. Free space there, or restore to another folder.", failure)
            : new FaultException(FaultReason.Unavailable, $"Disk {Disk.Name} could not be written to {path}: {failure.Message}", failure);
    }

    public async ValueTask DisposeAsync()
    {
        uncached?.Dispose();
        file?.Dispose();
        writing.Dispose();
        if (server is not null)
        {
            await server.DisposeAsync();
        }
    }
}

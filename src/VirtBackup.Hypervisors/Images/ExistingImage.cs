using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Images;

/// <summary>Where an existing disk is, and which of its dirty bitmaps is to be believed.</summary>
/// <param name="Bitmap">The bitmap's name, or null.</param>
/// <param name="TrackedSince">The recovery point since which the bitmap has recorded.</param>
/// <param name="TrackingDetail">Why it is believed or not, for people.</param>
internal sealed record ExistingPlace(RestoreDisk Disk, MachineImage Image, string? Bitmap, Id16? TrackedSince, string TrackingDetail);

/// <summary>
/// An image that is compared and written in place, through a qemu-nbd process of its own: it holds QEMU's image locks, so
/// that no machine runs on the image, and records the writes in the image's dirty bitmaps.
/// </summary>
internal sealed class ExistingImage : IExistingDisk, IAsyncDisposable
{
    /// <summary>More runs than these are joined: a bound of memory, which costs comparing what lies between them.</summary>
    private const int ExtentsMax = 1 << 17;

    private readonly ExistingPlace _place;
    private readonly Action _beforeWrite;
    private ImageServer? _server;

    private ExistingImage(ExistingPlace place, ImageServer server, IReadOnlyList<ByteRange> changed, Action beforeWrite)
    {
        _place = place;
        _server = server;
        _beforeWrite = beforeWrite;
        ChangedExtents = changed;
    }

    public RestoreDisk Disk => _place.Disk;

    public string Path => _place.Image.Path;

    public Id16? TrackedSince => _place.TrackedSince;

    public string TrackingDetail => _place.TrackingDetail;

    public IReadOnlyList<ByteRange> ChangedExtents { get; }

    private NbdClient Client => _server?.Client ?? throw new FaultException(FaultReason.FailedPrecondition, $"Disk {Disk.Name} is complete and takes no more data.");

    /// <param name="socket">A path for the image server's socket, in a private folder.</param>
    /// <param name="beforeWrite">Called before every write; many calls may be under way.</param>
    public static async Task<ExistingImage> OpenAsync(ExistingPlace place, string socket, Action beforeWrite, ImageTools tools, CancellationToken cancellationToken)
    {
        string[] contexts = place.Bitmap is null ? [NbdContexts.BaseAllocation] : [NbdContexts.BaseAllocation, NbdContexts.QemuDirtyBitmap(place.Bitmap)];
        var options = new NbdClientOptions { MetaContexts = contexts, RequestsInFlightMax = tools.RequestsInFlight, TimeProvider = tools.Time };
        var server = await ImageServer.StartAsync(
            tools.QemuNbd, place.Image.Path, place.Image.Format, socket, writable: true, options, tools.Time, cancellationToken, place.Bitmap);
        try
        {
            if (server.Client.ReadOnly || server.Client.Size < place.Disk.LengthBytes || contexts.Except(server.Client.Contexts).Any())
            {
                throw FaultException.Malformed($"{tools.QemuNbd} serves {place.Image.Path} read-only, too short, or without its allocation.");
            }
            var changed = place.Bitmap is null ? [] : await ReadChangedAsync(server.Client, place, cancellationToken);
            return new ExistingImage(place, server, changed, beforeWrite);
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    public async IAsyncEnumerable<ByteRange> ListDataAsync(ByteRange range, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var extent in Client.BlockStatusAsync(NbdContexts.BaseAllocation, range.Offset, range.Length, cancellationToken))
        {
            if (!extent.IsZero)
            {
                yield return new ByteRange(extent.Offset, extent.Length);
            }
        }
    }

    public async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        try
        {
            await Client.ReadAsync(offset, destination, cancellationToken);
        }
        catch (NbdErrorException failure)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"Disk {Disk.Name} cannot be read at byte {offset} of {Path}: {failure.Message} Restore it as a new disk.", failure);
        }
    }

    public async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        RequireWithin(new ByteRange(offset, source.Length));
        _beforeWrite();
        try
        {
            await Client.WriteAsync(offset, source, cancellationToken);
        }
        catch (NbdErrorException failure)
        {
            throw Translate(failure);
        }
    }

    public async ValueTask WriteZerosAsync(ByteRange range, CancellationToken cancellationToken)
    {
        RequireWithin(range);
        _beforeWrite();
        try
        {
            await Client.WriteZeroesAsync(range.Offset, range.Length, cancellationToken);
        }
        catch (NbdErrorException failure)
        {
            throw Translate(failure);
        }
    }

    /// <summary>Makes the image durable and lets go of it.</summary>
    public async Task FinishAsync(CancellationToken cancellationToken)
    {
        try
        {
            await Client.FlushAsync(cancellationToken);
            await _server!.CloseAsync(cancellationToken);
            await _server.DisposeAsync();
            _server = null;
            using var image = File.OpenHandle(Path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            if (_place.Image.Format == "raw" && !BlockDevice.Is(Path) && RandomAccess.GetLength(image) != Disk.LengthBytes)
            {
                // The server rounds a raw image up to whole sectors; the disk has its true length.
                RandomAccess.SetLength(image, Disk.LengthBytes);
            }
            RandomAccess.FlushToDisk(image);
        }
        catch (Exception failure) when (failure is IOException or NbdErrorException)
        {
            throw Translate(failure);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }
    }

    private static async Task<IReadOnlyList<ByteRange>> ReadChangedAsync(NbdClient client, ExistingPlace place, CancellationToken cancellationToken)
    {
        var extents = new JoinedExtents(ExtentsMax);
        await foreach (var extent in client.BlockStatusAsync(NbdContexts.QemuDirtyBitmap(place.Bitmap!), 0, place.Disk.LengthBytes, cancellationToken))
        {
            if (extent.IsDirty)
            {
                extents.Add(new ByteRange(extent.Offset, extent.Length));
            }
        }
        return extents.ToList();
    }

    private void RequireWithin(ByteRange range)
    {
        if (range.Offset < 0 || range.Length < 0 || range.Offset > Disk.LengthBytes - range.Length)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"{range.Length} bytes at {range.Offset} do not lie within disk {Disk.Name} of {Disk.LengthBytes} bytes.");
        }
    }

    private FaultException Translate(Exception failure)
    {
        var full = failure is NbdErrorException { Error: NbdError.NoSpace } || failure.Message.Contains("No space left", StringComparison.Ordinal);
        return full
            ? new FaultException(FaultReason.DeviceFull, $"There is no space left for disk {Disk.Name} at {Path}. Free space there and run the restore again.", failure)
            : new FaultException(FaultReason.Unavailable, $"Disk {Disk.Name} could not be written to {Path}: {failure.Message}", failure);
    }
}

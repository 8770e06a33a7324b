using System.Runtime.CompilerServices;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Images;

/// <summary>What an image knows of its changes.</summary>
/// <param name="Bitmap">A bitmap of it that holds all changes since the base; null: it is read in full.</param>
/// <param name="Token">Of what its changes will be tracked by from now on; empty: nothing.</param>
internal sealed record ImageTracking(string? Bitmap, string Token);

/// <summary>
/// One image being read. qemu-nbd holds its locks, knows its allocation and reads qcow2; the bytes of a raw image are
/// read directly, which spares a copy through a socket.
/// </summary>
internal sealed class ImageCapturedDisk : ICapturedDisk, IAsyncDisposable
{
    private readonly ImageServer _server;
    private readonly SafeFileHandle? _raw;
    private readonly LayerLengths _lengths;
    private readonly IReadOnlyList<ByteRange>? _told;
    private readonly ImageTracking _tracking;
    private readonly string _path;

    private ImageCapturedDisk(
        DiskSummary disk, string path, ImageServer server, SafeFileHandle? raw, LayerLengths lengths, IReadOnlyList<ByteRange>? told, ImageTracking tracking, string reason)
    {
        Disk = disk;
        _path = path;
        _server = server;
        _raw = raw;
        _lengths = lengths;
        _told = told;
        _tracking = tracking;
        Reason = reason;
    }

    public DiskSummary Disk { get; }

    public bool ChangedOnly => _told is not null || _tracking.Bitmap is not null;

    public string Reason { get; }

    public ReadReach Reach => ReadReach.Everything;

    public string BaseToken => _tracking.Token;

    /// <param name="layers">The image's files, topmost first.</param>
    /// <param name="tracking">Null: the image has none.</param>
    public static async Task<ImageCapturedDisk> OpenAsync(
        MachineImage image, IReadOnlyList<ImageLayer> layers, DiskSummary disk, IReadOnlyList<ByteRange>? told, string reason, string socket, ImageTools tools,
        CancellationToken cancellationToken, ImageTracking? tracking = null)
    {
        if (told is [.., var last] && last.End > disk.LengthBytes)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A changed extent ends at byte {last.End}; disk {disk.Name} has {disk.LengthBytes}.");
        }
        tracking ??= new ImageTracking(Bitmap: null, Token: "");
        string[] contexts = tracking.Bitmap is { } bitmap ? [NbdContexts.BaseAllocation, NbdContexts.QemuDirtyBitmap(bitmap)] : [NbdContexts.BaseAllocation];
        var options = new NbdClientOptions { MetaContexts = contexts, RequestsInFlightMax = tools.RequestsInFlight, TimeProvider = tools.Time };
        var server = await ImageServer.StartAsync(tools.QemuNbd, image.Path, image.Format, socket, writable: false, options, tools.Time, cancellationToken, tracking.Bitmap);
        LayerLengths? lengths = null;
        try
        {
            lengths = LayerLengths.Open(layers);
            // A raw image whose length is no multiple of 512 is served rounded up; the disk keeps its true length.
            if (server.Client.Size < disk.LengthBytes || contexts.Except(server.Client.Contexts).Any())
            {
                throw FaultException.Malformed($"{tools.QemuNbd} serves {image.Path} with {server.Client.Size} instead of {disk.LengthBytes} bytes, or without its block status.");
            }
            var raw = image.Format == "raw" && disk.LengthBytes > 0 ? File.OpenHandle(image.Path, options: FileOptions.Asynchronous) : null;
            return new ImageCapturedDisk(disk, image.Path, server, raw, lengths, told, tracking, reason);
        }
        catch (Exception failure)
        {
            lengths?.Dispose();
            await server.DisposeAsync();
            throw failure is IOException or UnauthorizedAccessException
                ? new FaultException(FaultReason.FailedPrecondition, $"The image {image.Path} cannot be opened: {failure.Message}", failure) : failure;
        }
    }

    public async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        if (_told is not null)
        {
            foreach (var range in _told)
            {
                yield return range;
            }
            yield break;
        }
        if (Disk.LengthBytes == 0)
        {
            yield break;
        }
        var context = _tracking.Bitmap is { } bitmap ? NbdContexts.QemuDirtyBitmap(bitmap) : NbdContexts.BaseAllocation;
        await foreach (var extent in _server.Client.BlockStatusAsync(context, 0, Disk.LengthBytes, cancellationToken))
        {
            if (_tracking.Bitmap is null ? !extent.IsZero : extent.IsDirty)
            {
                yield return new ByteRange(extent.Offset, extent.Length);
            }
        }
        _lengths.RequireUncut();
    }

    public async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        try
        {
            if (_raw is null)
            {
                await _server.Client.ReadAsync(offset, destination, cancellationToken);
                _lengths.RequireUncut();
                return;
            }
            while (destination.Length > 0)
            {
                var count = await RandomAccess.ReadAsync(_raw, destination, offset, cancellationToken);
                if (count == 0)
                {
                    throw LayerLengths.WasCut(_path);
                }
                offset += count;
                destination = destination[count..];
            }
        }
        catch (Exception failure) when (failure is IOException or NbdErrorException)
        {
            throw new FaultException(FaultReason.SnapshotLost, $"Disk {Disk.Name} cannot be read at byte {offset} of {_path}: {failure.Message}", failure);
        }
    }

    public async ValueTask DisposeAsync()
    {
        _raw?.Dispose();
        _lengths.Dispose();
        await _server.DisposeAsync();
    }
}

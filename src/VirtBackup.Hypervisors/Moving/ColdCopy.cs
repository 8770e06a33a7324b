using System.Buffers;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>
/// Copies the image files of a machine that is off, byte by byte: whatever an image keeps besides its disk (bitmaps, snapshots) comes along.
/// While this lives, the old images stay locked as QEMU locks them, so that the machine cannot be started meanwhile.
/// </summary>
internal sealed class ColdCopy : IAsyncDisposable
{
    private const int PieceBytes = 1 << 20;
    private const int ErrnoNoSpace = 28;
    private readonly List<ImageServer> servers = [];
    private readonly string sockets;
    private readonly ImageTools tools;
    private readonly TimeProvider time;

    private ColdCopy(string sockets, ImageTools tools)
    {
        this.sockets = sockets;
        this.tools = tools;
        time = tools.Time;
    }

    /// <summary>Locks the old images.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: one is in use, or cannot be read.</exception>
    public static async Task<ColdCopy> OpenAsync(IReadOnlyList<string> images, ImageTools tools, CancellationToken cancellationToken)
    {
        var copy = new ColdCopy(Directory.CreateTempSubdirectory("virtbackup-move-").FullName, tools);
        try
        {
            foreach (var (number, image) in images.Index())
            {
                var options = new NbdClientOptions { MetaContexts = [NbdContexts.BaseAllocation], TimeProvider = tools.Time };
                // As raw: the file is copied, whatever it holds. Writable, though nothing is written: a reader's lock would let another reader in.
                copy.servers.Add(await ImageServer.StartAsync(tools.QemuNbd, image, "raw", Path.Combine(copy.sockets, $"{number}.sock"), writable: true, options, tools.Time, cancellationToken));
            }
            return copy;
        }
        catch
        {
            await copy.DisposeAsync();
            throw;
        }
    }

    /// <summary>Copies the images of all planned disks, in the order in which they were locked, to images that are made for them; durable when this returns.</summary>
    /// <param name="plan">Of images that keep their formats.</param>
    /// <param name="request">Has the pace, and is told how far it is.</param>
    /// <param name="qemuImg">Path of qemu-img.</param>
    /// <param name="processes">Runs it.</param>
    /// <param name="copied">Told of each disk when it is copied.</param>
    /// <param name="cancellationToken">Stops between pieces.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.DeviceFull"/>, <see cref="FaultReason.FailedPrecondition"/>, <see cref="FaultReason.Unavailable"/>.</exception>
    public async Task CopyAllAsync(
        StorageMovePlan plan, StorageMoveRequest request, string qemuImg, ProcessRunner processes, Action<PlannedMove, long, TimeSpan> copied, CancellationToken cancellationToken)
    {
        var pace = new CopyPace(request.BytesPerSecondMax, time, cancellationToken);
        long total = 0, done = 0;
        for (var i = 0; i < plan.Disks.Count; i++)
        {
            total += await MeasureAsync(i, cancellationToken);
        }
        foreach (var (i, move) in plan.Disks.Index())
        {
            var begun = time.GetTimestamp();
            long? length = BlockDevice.Is(move.OldPath) ? null : new FileInfo(move.OldPath).Length;
            await TargetImage.CreateAsync(qemuImg, move.NewPath, "raw", length ?? move.Disk.LengthBytes, processes, cancellationToken);
            var bytes = await CopyAsync(i, move.NewPath, length, pace.WaitAsync, Tell, cancellationToken);
            copied(move, bytes, time.GetElapsedTime(begun));
        }

        void Tell(long more)
        {
            done += more;
            request.Progress(new StorageMoveProgress("copying", total, done));
        }
    }

    /// <summary>Bytes of data in an image file, which holes are not.</summary>
    private async Task<long> MeasureAsync(int image, CancellationToken cancellationToken)
    {
        long bytes = 0;
        var client = servers[image].Client;
        await foreach (var extent in client.BlockStatusAsync(NbdContexts.BaseAllocation, 0, client.Size, cancellationToken))
        {
            bytes += extent.IsZero ? 0 : extent.Length;
        }
        return bytes;
    }

    /// <summary>Copies one image to a file that exists and is empty; durable when this returns.</summary>
    /// <param name="fileBytes">Of the old file, whose last sector may be incomplete; null: it is a device.</param>
    /// <param name="pace">Waits until so many bytes more may be copied.</param>
    /// <returns>Bytes copied.</returns>
    /// <exception cref="FaultException"><see cref="FaultReason.DeviceFull"/>, <see cref="FaultReason.Unavailable"/>.</exception>
    private async Task<long> CopyAsync(int image, string path, long? fileBytes, Func<int, ValueTask> pace, Action<long> copied, CancellationToken cancellationToken)
    {
        var client = servers[image].Client;
        var buffer = ArrayPool<byte>.Shared.Rent(PieceBytes);
        long total = 0;
        try
        {
            using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Write, FileShare.Read, FileOptions.Asynchronous);
            var lengthBytes = fileBytes ?? client.Size;
            RandomAccess.SetLength(file, lengthBytes);
            await foreach (var extent in client.BlockStatusAsync(NbdContexts.BaseAllocation, 0, client.Size, cancellationToken))
            {
                for (var offset = extent.Offset; !extent.IsZero && offset < extent.End;)
                {
                    var piece = (int)Math.Min(PieceBytes, extent.End - offset);
                    await pace(piece);
                    await client.ReadAsync(offset, buffer.AsMemory(0, piece), cancellationToken);
                    await WriteAsync(file, buffer.AsMemory(0, (int)Math.Min(piece, lengthBytes - offset)), offset, cancellationToken);
                    offset += piece;
                    total += piece;
                    copied(piece);
                }
            }
            RandomAccess.FlushToDisk(file);
            return total;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or NbdErrorException)
        {
            throw (failure.HResult & 0xffff) == ErrnoNoSpace
                ? new FaultException(FaultReason.DeviceFull, $"There is no space left for {path}. Free space there, or choose another folder.", failure)
                : new FaultException(FaultReason.Unavailable, $"The image could not be copied to {path}: {failure.Message}", failure);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private static ValueTask WriteAsync(SafeFileHandle file, ReadOnlyMemory<byte> bytes, long offset, CancellationToken cancellationToken) =>
        bytes.Span.ContainsAnyExcept((byte)0) ? RandomAccess.WriteAsync(file, bytes, offset, cancellationToken) : ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        foreach (var server in servers)
        {
            await server.DisposeAsync();
        }
        Directory.Delete(sockets, recursive: true);
    }
}

/// <summary>Holds copying to a number of bytes a second. Not safe for concurrent use.</summary>
internal sealed class CopyPace(long bytesPerSecond, TimeProvider time, CancellationToken cancellationToken)
{
    private readonly long begun = time.GetTimestamp();
    private long bytes;

    /// <summary>Returns at once when there is no limit.</summary>
    public async ValueTask WaitAsync(int more)
    {
        if (bytesPerSecond <= 0)
        {
            return;
        }
        var due = TimeSpan.FromSeconds((double)bytes / bytesPerSecond) - time.GetElapsedTime(begun);
        bytes += more;
        if (due > TimeSpan.Zero)
        {
            await Task.Delay(due, time, cancellationToken);
        }
    }
}

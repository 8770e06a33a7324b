using System.Diagnostics;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// Writes a new disk image under a temporary name. Raw images are written directly and stay sparse; qcow2 images through
/// a qemu-nbd process of their own, which ends with its only connection.
/// </summary>
internal sealed class ImageWriter : IRestoredDisk, IAsyncDisposable
{
    private const string Unfinished = ".partial";
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(20);
    private readonly string path;
    private readonly TimeProvider time;
    private SafeFileHandle? file;
    private NbdClient? client;
    private Process? server;
    private Task<string> serverError = Task.FromResult("");

    private ImageWriter(RestoreDisk disk, string path, TimeProvider time)
    {
        Disk = disk;
        this.path = path;
        this.time = time;
    }

    public RestoreDisk Disk { get; }

    /// <param name="path">The image's final path; until <see cref="FinishAsync"/> it has another name.</param>
    /// <param name="socket">A path for the image server's socket.</param>
    public static async Task<ImageWriter> CreateAsync(
        RestoreDisk disk, string path, string socket, DiskPreallocation preallocation, QemuDriverContext context, CancellationToken cancellationToken)
    {
        var reserve = preallocation switch
        {
            DiskPreallocation.Full => "falloc",
            DiskPreallocation.Metadata when disk.Format == "qcow2" => "metadata",
            _ => "off",
        };
        await context.Processes.RequireAsync(context.Options.QemuImg,
            ["create", "-q", "-f", disk.Format, "-o", $"preallocation={reserve}", path + Unfinished, disk.LengthBytes.ToString(CultureInfo.InvariantCulture)],
            ToolTimeout, cancellationToken);
        var writer = new ImageWriter(disk, path, context.Time);
        try
        {
            if (disk.Format == "raw")
            {
                writer.file = File.OpenHandle(path + Unfinished, FileMode.Open, FileAccess.ReadWrite, FileShare.Read, FileOptions.Asynchronous);
            }
            else
            {
                await writer.ServeAsync(socket, context.Options, cancellationToken);
            }
            return writer;
        }
        catch
        {
            await writer.DisposeAsync();
            throw;
        }
    }

    private async Task ServeAsync(string socket, QemuOptions options, CancellationToken cancellationToken)
    {
        server = ProcessRunner.Start(options.QemuNbd,
            ["--socket", socket, "--format", Disk.Format, "--cache", "writeback", "--aio", "threads", "--shared", "1", path + Unfinished]);
        serverError = ReadErrorAsync(server);
        var deadline = time.GetTimestamp();
        while (client is null)
        {
            try
            {
                client = await NbdClient.ConnectAsync(NbdEndpoint.Unix(socket),
                    new NbdClientOptions { RequestsInFlightMax = options.RequestsInFlight, TimeProvider = time }, cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable && !server.HasExited && time.GetElapsedTime(deadline) < ConnectTimeout)
            {
                await Task.Delay(PollInterval, time, cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable)
            {
                var said = server.HasExited ? ProcessRunner.LastLines(await serverError, 3) : "it gives no answer";
                throw new FaultException(FaultReason.FailedPrecondition, $"{options.QemuNbd} does not serve the new image of disk {Disk.Name}: {said}", fault);
            }
        }
    }

    private static async Task<string> ReadErrorAsync(Process process)
    {
        _ = ProcessRunner.ReadBoundedAsync(process.StandardOutput.BaseStream, CancellationToken.None);
        return await ProcessRunner.ReadBoundedAsync(process.StandardError.BaseStream, CancellationToken.None);
    }

    public async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        if (offset < 0 || offset > Disk.LengthBytes - source.Length)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"{source.Length} bytes at {offset} do not lie within disk {Disk.Name} of {Disk.LengthBytes} bytes.");
        }
        try
        {
            await (file is not null ? RandomAccess.WriteAsync(file, source, offset, cancellationToken) : Client.WriteAsync(offset, source, cancellationToken));
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
            if (client is not null)
            {
                await client.FlushAsync(cancellationToken);
                await client.DisposeAsync();
                client = null;
                await WaitForServerAsync(cancellationToken);
            }
            using (var image = file ?? File.OpenHandle(path + Unfinished, FileMode.Open, FileAccess.ReadWrite))
            {
                file = null;
                RandomAccess.FlushToDisk(image);
            }
            File.Move(path + Unfinished, path);
        }
        catch (Exception failure) when (failure is IOException or NbdErrorException)
        {
            throw Translate(failure);
        }
    }

    private async Task WaitForServerAsync(CancellationToken cancellationToken)
    {
        using var deadline = new CancellationTokenSource(ToolTimeout, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        try
        {
            await server!.WaitForExitAsync(linked.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new FaultException(FaultReason.Unavailable, $"The image of disk {Disk.Name} was not closed within {ToolTimeout.TotalMinutes:0} minutes.");
        }
        if (server.ExitCode != 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The image of disk {Disk.Name} could not be closed: {ProcessRunner.LastLines(await serverError, 3)}");
        }
    }

    private NbdClient Client => client ?? throw new FaultException(FaultReason.FailedPrecondition, $"Disk {Disk.Name} is complete and takes no more data.");

    private FaultException Translate(Exception failure)
    {
        // ENOSPC: errno 28 in the low word of the HResult that .NET gives file errors.
        var full = failure is NbdErrorException { Error: NbdError.NoSpace } || (failure is IOException && (failure.HResult & 0xffff) == 28)
            || failure.Message.Contains("No space left", StringComparison.Ordinal);
        return full
            ? new FaultException(FaultReason.DeviceFull, $"There is no space left for disk {Disk.Name} at {path}.", failure)
            : new FaultException(FaultReason.Unavailable, $"Disk {Disk.Name} could not be written to {path}: {failure.Message}", failure);
    }

    public async ValueTask DisposeAsync()
    {
        file?.Dispose();
        if (client is not null)
        {
            await client.DisposeAsync();
        }
        if (server is not null)
        {
            if (!server.HasExited)
            {
                server.Kill();
                await server.WaitForExitAsync(CancellationToken.None);
            }
            server.Dispose();
        }
    }
}

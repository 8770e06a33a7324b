using System.Diagnostics;
using VirtBackup.Core;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// A qemu-nbd process that serves one image on a private socket, with QEMU's own image locks held: a running machine's
/// image is refused, and none can be started on it meanwhile. Disposing ends the process.
/// </summary>
internal sealed class ImageServer : IAsyncDisposable
{
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan EndTimeout = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(20);
    private readonly Process process;
    private readonly Task<string> error;
    private readonly TimeProvider time;
    private bool disposed;

    private ImageServer(Process process, TimeProvider time)
    {
        this.process = process;
        this.time = time;
        error = ReadErrorAsync(process);
    }

    /// <summary>The connection; the server ends with it.</summary>
    public NbdClient Client { get; private set; } = null!;

    /// <param name="image">Path of the image.</param>
    /// <param name="format">Its format.</param>
    /// <param name="socket">Where the socket will be; its folder must be private.</param>
    /// <param name="writable">False: opened read-only, any format of backing chain allowed.</param>
    /// <param name="options">Connection options.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the image cannot be served; the message says why.</exception>
    public static async Task<ImageServer> StartAsync(
        string program, string image, string format, string socket, bool writable, NbdClientOptions options, TimeProvider time, CancellationToken cancellationToken)
    {
        List<string> arguments = ["--socket", socket, "--format", format, "--aio", "threads", "--shared", "1"];
        arguments.AddRange(writable ? ["--cache", "writeback"] : ["--read-only", "--cache", "writeback"]);
        arguments.Add(image);
        var server = new ImageServer(ProcessRunner.Start(program, arguments), time);
        try
        {
            await server.ConnectAsync(program, image, socket, options, cancellationToken);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Ends the connection in order and waits until the process has closed the image.</summary>
    public async Task CloseAsync(CancellationToken cancellationToken)
    {
        await Client.DisposeAsync();
        using var deadline = new CancellationTokenSource(EndTimeout, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        await process.WaitForExitAsync(linked.Token);
        if (process.ExitCode != 0)
        {
            throw new FaultException(FaultReason.Unavailable, $"The image server ended with code {process.ExitCode}: {ProcessRunner.LastLines(await error, 3)}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (disposed)
        {
            return;
        }
        disposed = true;
        if (Client is not null)
        {
            await Client.DisposeAsync();
        }
        if (!process.HasExited)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(CancellationToken.None);
        }
        await error;
        process.Dispose();
    }

    private async Task ConnectAsync(string program, string image, string socket, NbdClientOptions options, CancellationToken cancellationToken)
    {
        var start = time.GetTimestamp();
        while (true)
        {
            try
            {
                Client = await NbdClient.ConnectAsync(NbdEndpoint.Unix(socket), options, cancellationToken);
                return;
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable && !process.HasExited && time.GetElapsedTime(start) < ConnectTimeout)
            {
                await Task.Delay(PollInterval, time, cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable)
            {
                var said = process.HasExited ? ProcessRunner.LastLines(await error, 3) : "it gives no answer";
                throw new FaultException(FaultReason.FailedPrecondition, $"{program} cannot open {image}: {said}", fault);
            }
        }
    }

    private static async Task<string> ReadErrorAsync(Process process)
    {
        var output = ProcessRunner.ReadBoundedAsync(process.StandardOutput.BaseStream, CancellationToken.None);
        var text = await ProcessRunner.ReadBoundedAsync(process.StandardError.BaseStream, CancellationToken.None);
        await output;
        return text;
    }
}

using System.Net.Sockets;
using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.State;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Gives a stored running state to a QEMU that waits for it.</summary>
internal sealed class StateLoad(StateFiles files, TimeProvider time)
{
    private static readonly TimeSpan LoadPollInterval = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan SettleLimit = TimeSpan.FromSeconds(60);

    /// <summary>Hands the state to a QEMU that was started with <c>-incoming defer</c>, and lets the guest go on.</summary>
    /// <exception cref="FaultException">QEMU could not load it, and has ended or will.</exception>
    public async Task LoadAsync(QmpClient qmp, CancellationToken cancellationToken)
    {
        var path = Path.Combine(files.Place, "in.sock");
        await qmp.ExecuteAsync("migrate-incoming", new JsonObject { ["uri"] = $"unix:{path}" }, cancellationToken);
        await using (var state = await files.OpenAsync(cancellationToken))
        {
            await SendAsync(path, state, cancellationToken);
        }
        for (var started = time.GetTimestamp(); (await qmp.ExecuteAsync("query-migrate", null, cancellationToken)).FindText("status") is var status && status != "completed";)
        {
            if (status == "failed" || time.GetElapsedTime(started) > SettleLimit)
            {
                throw new FaultException(FaultReason.FailedPrecondition, "QEMU did not take the running state.");
            }
            await Task.Delay(LoadPollInterval, time, cancellationToken);
        }
        await qmp.ExecuteAsync("cont", null, cancellationToken);
    }

    private static async Task SendAsync(string path, OpenState state, CancellationToken cancellationToken)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
            await using var target = new NetworkStream(socket);
            await state.WriteAsync(target, cancellationToken);
            socket.Shutdown(SocketShutdown.Send);
        }
        catch (Exception failure) when (failure is IOException or SocketException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"QEMU stopped reading the running state: {failure.Message}", failure);
        }
    }
}

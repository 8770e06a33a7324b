using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// File systems frozen for a cut. Whatever happens after a freeze was asked for, a thaw is sent; a silent agent costs
/// its time limit and nothing more.
/// </summary>
internal sealed class Quiesce : IAsyncDisposable
{
    private static readonly TimeSpan ThawTimeout = TimeSpan.FromSeconds(20);
    private readonly TimeProvider time;
    private GuestAgentClient? agent;
    private long frozenAt;

    private Quiesce(TimeProvider time) => this.time = time;

    public bool Frozen { get; private set; }

    public string Detail { get; private set; } = "";

    /// <summary>Never throws for the agent's sake: without it, the capture is crash-consistent and says why.</summary>
    /// <param name="beforeFreeze">Called when a freeze is about to be sent.</param>
    public static async Task<Quiesce> BeginAsync(
        QemuMachine machine, CaptureRequest request, bool running, QemuOptions options, TimeProvider time, IEntropy entropy, Action beforeFreeze,
        CancellationToken cancellationToken)
    {
        var quiesce = new Quiesce(time);
        if (!running || !request.Quiesce || machine.GuestAgentSocket is null)
        {
            quiesce.Detail = !running ? "The machine was not running."
                : !request.Quiesce ? "Crash-consistent, as asked for."
                : "Crash-consistent: no guest agent is configured for this machine.";
            return quiesce;
        }
        try
        {
            quiesce.agent = await GuestAgentClient.ConnectAsync(machine.GuestAgentSocket, time, entropy, options.GuestAgentTimeout, cancellationToken);
            beforeFreeze();
            await quiesce.FreezeAsync(request.QuiesceTimeout, cancellationToken);
        }
        catch (FaultException fault)
        {
            quiesce.Detail = $"Crash-consistent: {fault.Message}";
        }
        catch
        {
            await quiesce.DisposeAsync();
            throw;
        }
        return quiesce;
    }

    private async Task FreezeAsync(TimeSpan timeout, CancellationToken cancellationToken)
    {
        try
        {
            frozenAt = time.GetTimestamp();
            var count = await agent!.FreezeAsync(timeout, cancellationToken);
            Frozen = count > 0;
            Detail = Frozen ? $"{count} file systems were frozen" : "Crash-consistent: the guest agent found no file system to freeze.";
        }
        catch (Exception failure) when (failure is FaultException or OperationCanceledException)
        {
            // The freeze may still be under way, and would last until somebody ends it.
            await agent!.AskToThawAsync(CancellationToken.None);
            throw;
        }
    }

    /// <summary>Ends the freeze. Never throws for the agent's sake: <see cref="Detail"/> tells.</summary>
    public async Task ThawAsync()
    {
        if (agent is null || !Frozen)
        {
            return;
        }
        try
        {
            await agent.ThawAsync(ThawTimeout, CancellationToken.None);
            Detail += $" for {time.GetElapsedTime(frozenAt).TotalMilliseconds:0} ms.";
        }
        catch (FaultException fault)
        {
            Detail += $", but the guest agent did not confirm the thaw: {fault.Message} Check that the guest's file systems can be written to.";
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (agent is not null)
        {
            await agent.DisposeAsync();
        }
    }
}

using System.Xml.Linq;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// File systems frozen for a cut, through libvirt and the guest agent. Whatever happens after a freeze was asked for, a
/// thaw is sent: one that comes too late to be waited for is undone when it comes.
/// </summary>
internal sealed class DomainQuiesce
{
    private const string AgentChannel = "org.qemu.guest_agent.0";
    private static readonly TimeSpan ThawTimeout = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan LatePause = TimeSpan.FromSeconds(5);
    private const int LateTries = 120;
    private readonly LibvirtConnection connection;
    private readonly Id16 machine;
    private readonly TimeProvider time;
    private readonly FrozenCut cut;
    private int frozen;
    private long askedAt, frozenAt;

    private DomainQuiesce(LibvirtConnection connection, Id16 machine, FrozenCut cut, TimeProvider time)
    {
        this.connection = connection;
        this.machine = machine;
        this.cut = cut;
        this.time = time;
    }

    /// <summary>Whether the cut is made behind the freeze: <see cref="FrozenCut.Made"/> tells. Otherwise it is still to be made.</summary>
    public bool IsCutting => frozen > 0;

    public CaptureConsistency Consistency { get; private set; } = CaptureConsistency.Crash;

    public string Detail { get; private set; } = "";

    /// <summary>From the guest's word that it is frozen to its word that it is not; null: it did not freeze, or gave none.</summary>
    public TimeSpan? Frozen { get; private set; }

    /// <summary>Never throws for the agent's sake: without it, the capture is crash-consistent and says why.</summary>
    public static async Task<DomainQuiesce> BeginAsync(
        LibvirtConnection connection, DomainView view, CaptureRequest request, FrozenCut cut, ScratchFolder folder, TimeProvider time, CancellationToken cancellationToken)
    {
        RefuseHooks(request);
        var quiesce = new DomainQuiesce(connection, view.Document.Uuid, cut, time);
        var channel = FindChannel(view.Document.Root);
        quiesce.Detail = !view.Running ? "The machine was not running."
            : !request.Quiesce ? "Crash-consistent, as asked for."
            : channel is null ? "Crash-consistent: the machine has no channel for a guest agent."
            : channel.Text("target", "state") == "disconnected" ? "Crash-consistent: no guest agent runs in the machine."
            : "";
        if (quiesce.Detail.Length == 0)
        {
            await quiesce.FreezeAsync(request.QuiesceTimeout, folder, cancellationToken);
        }
        return quiesce;
    }

    // Told rather than left out in silence: whoever configured a hook relies on it.
    private static void RefuseHooks(CaptureRequest request)
    {
        if (!request.Quiesce || request.Hooks.BeforeFreeze is null)
        {
            return;
        }
        const string why = "Hooks are not run in machines that libvirt manages yet";
        if (request.Hooks.AbortOnFailure)
        {
            throw new FaultException(FaultReason.Unsupported, $"{why}, and this machine is not to be backed up without them. Set hook_failure: continue, or back it up with --no-quiesce.");
        }
        request.Log($"{why}: the backup is at most file-system consistent.");
    }

    /// <summary>The channel to the guest agent, or null.</summary>
    public static XElement? FindChannel(XElement root) =>
        root.Element("devices")?.Elements("channel").FirstOrDefault(channel => channel.Text("target", "name") == AgentChannel);

    /// <summary>Ends a freeze that a killed run left. A guest that does not answer was restarted, or is not frozen.</summary>
    public static async Task ThawLeftoverAsync(LibvirtConnection connection, Id16 machine, TimeProvider time, CancellationToken cancellationToken)
    {
        try
        {
            await connection.StartAsync(libvirt => Thaw(libvirt, machine), cancellationToken).WaitAsync(ThawTimeout, time, cancellationToken);
        }
        catch (Exception failure) when (failure is LibvirtFailure or TimeoutException)
        {
            // Nothing more can be done from outside.
        }
    }

    /// <returns>How many file systems were thawed.</returns>
    public static Task<int> ThawAsync(LibvirtConnection connection, Id16 machine, CancellationToken cancellationToken) =>
        connection.StartAsync(libvirt => Thaw(libvirt, machine), cancellationToken);

    /// <summary>Called when a guard let the guest go on before the cut was made.</summary>
    public void DenyHeld()
    {
        if (Consistency != CaptureConsistency.Crash)
        {
            Consistency = CaptureConsistency.Crash;
            Detail += " The thaw watchdog thawed the guest before the cut was over. Crash-consistent.";
        }
    }

    /// <summary>Ends the freeze. Never throws for the agent's sake: <see cref="Detail"/> tells.</summary>
    public async Task ThawAsync(ScratchFolder folder)
    {
        if (frozen == 0)
        {
            return;
        }
        try
        {
            var isBehind = cut.Made.IsCompletedSuccessfully;
            var thawed = await (isBehind ? cut.Thawed : connection.StartAsync(libvirt => Thaw(libvirt, machine), CancellationToken.None))
                .WaitAsync(ThawTimeout, time, CancellationToken.None);
            Frozen = isBehind ? cut.FrozenFor : time.GetElapsedTime(frozenAt);
            if (thawed == 0)
            {
                Consistency = CaptureConsistency.Crash;
                Detail = $"Crash-consistent: {frozen} file systems were frozen, but the guest let them go on before the cut was done.";
            }
            else
            {
                Detail = $"{frozen} file systems were frozen for {Frozen.Value.TotalMilliseconds:0} ms; freezing them had taken {time.GetElapsedTime(askedAt, frozenAt).TotalMilliseconds:0} ms.";
            }
            folder.Unmark();
        }
        catch (Exception failure) when (failure is LibvirtFailure or TimeoutException or FaultException)
        {
            Detail = $"{frozen} file systems were frozen, but the guest agent did not confirm the thaw: {failure.Message} Check that the guest's file systems can be written to.";
            _ = ThawLateAsync(Task.FromResult(0), folder);
        }
    }

    private async Task FreezeAsync(TimeSpan timeout, ScratchFolder folder, CancellationToken cancellationToken)
    {
        folder.Mark();
        askedAt = time.GetTimestamp();
        var freezing = cut.FreezeAsync(cancellationToken);
        try
        {
            frozen = await WaitAsync(freezing, timeout, cancellationToken);
            frozenAt = time.GetTimestamp();
            Consistency = frozen > 0 ? CaptureConsistency.Filesystem : CaptureConsistency.Crash;
            Detail = "Crash-consistent: the guest agent found no file system to freeze.";
            if (frozen == 0)
            {
                folder.Unmark();
            }
        }
        catch (Exception failure) when (failure is LibvirtFailure or FaultException)
        {
            // A freeze that failed may have frozen a part.
            Detail = $"Crash-consistent: {failure.Message}";
            _ = ThawLateAsync(freezing, folder);
        }
        catch (TimeoutException)
        {
            Detail = $"Crash-consistent: the guest agent did not freeze the file systems within {timeout.TotalSeconds:0.#} s.";
            _ = ThawLateAsync(freezing, folder);
        }
        catch (OperationCanceledException)
        {
            _ = ThawLateAsync(freezing, folder);
            throw;
        }
    }

    private async Task<int> WaitAsync(Task<int> freezing, TimeSpan timeout, CancellationToken cancellationToken)
    {
        try
        {
            return await freezing.WaitAsync(timeout, time, cancellationToken);
        }
        catch (Exception failure) when (failure is TimeoutException or OperationCanceledException && !cut.TryGiveUp())
        {
            return await freezing; // it has come just now
        }
    }

    private async Task ThawLateAsync(Task<int> freezing, ScratchFolder folder)
    {
        await Task.Yield();
        try
        {
            await freezing;
        }
        catch (Exception failure) when (failure is LibvirtFailure or FaultException or OperationCanceledException)
        {
            // It may have frozen a part nevertheless.
        }
        for (var i = 0; i < LateTries; i++)
        {
            try
            {
                await connection.StartAsync(libvirt => Thaw(libvirt, machine), CancellationToken.None);
                folder.Unmark();
                return;
            }
            catch (Exception failure) when (failure is LibvirtFailure or FaultException or IOException)
            {
                await Task.Delay(LatePause, time, CancellationToken.None);
            }
        }
    }

    private static int Thaw(ConnectionHandle libvirt, Id16 machine)
    {
        using var domain = Domains.Find(libvirt, machine);
        return LibvirtValues.Require(LibvirtCalls.Thaw(domain, 0, 0, 0));
    }
}

using System.Text.Json;
using System.Text.Json.Nodes;
using System.Xml.Linq;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// The agent of a machine's guest, reached through libvirt, which serves everybody at once. A call of libvirt cannot be called
/// off: one that is late goes on, and a freeze that comes late is undone when it comes.
/// </summary>
internal sealed class DomainAgent(LibvirtConnection connection, Id16 machine, TimeProvider time, FrozenCut? cut = null) : IGuestAgent
{
    private const string Channel = "org.qemu.guest_agent.0";
    /// <summary>libvirt limits its wait by itself; this is for a daemon that hangs.</summary>
    private static readonly TimeSpan DaemonMargin = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan LatePause = TimeSpan.FromSeconds(5);
    private const int LateTries = 120;
    /// <summary>What helps where libvirt has lost sight of an agent, for people.</summary>
    private const string RestartHint = " If that lasts although the agent runs, restart the agent in the guest, or libvirtd; the guest runs on.";
    private Task freezing = Task.CompletedTask;

    /// <summary>How the agent of a machine is reached; null: it is not meant to have one.</summary>
    /// <param name="cut">What is done right behind its freeze; null: nothing.</param>
    public static Func<CancellationToken, Task<IGuestAgent>>? Connector(LibvirtConnection connection, DomainView view, FrozenCut? cut, TimeProvider time)
    {
        var channel = FindChannel(view.Document.Root);
        return channel is null ? null
            : channel.Text("target", "state") == "disconnected"
            ? _ => throw new FaultException(FaultReason.HypervisorUnavailable, "No guest agent runs in the machine.")
            : _ => Task.FromResult<IGuestAgent>(new DomainAgent(connection, view.Document.Uuid, time, cut));
    }

    /// <summary>The channel to the guest's agent, or null.</summary>
    public static XElement? FindChannel(XElement root) =>
        root.Element("devices")?.Elements("channel").FirstOrDefault(channel => channel.Text("target", "name") == Channel);

    public async Task<JsonElement> ExecuteAsync(string command, JsonObject? arguments, TimeSpan timeout, CancellationToken cancellationToken)
    {
        var request = new JsonObject { ["execute"] = command };
        if (arguments is not null)
        {
            request["arguments"] = arguments;
        }
        var (text, seconds) = (request.ToJsonString(), (int)Math.Max(1, Math.Ceiling(timeout.TotalSeconds)));
        var reply = await WaitAsync(command, connection.StartAsync(libvirt => Ask(libvirt, text, seconds), cancellationToken), timeout + DaemonMargin, cancellationToken);
        try
        {
            using var document = JsonDocument.Parse(reply);
            return document.RootElement.Find("return")?.Clone()
                ?? throw FaultException.Malformed($"The guest agent's answer to '{command}' is not a reply.");
        }
        catch (JsonException failure)
        {
            throw new FaultException(FaultReason.Malformed, $"The guest agent's answer to '{command}' is not JSON.", failure);
        }
    }

    public async Task<long> FreezeAsync(TimeSpan timeout, CancellationToken cancellationToken)
    {
        var call = cut?.FreezeAsync(cancellationToken) ?? connection.StartAsync(Freeze, cancellationToken);
        freezing = call;
        try
        {
            return await WaitAsync("guest-fsfreeze-freeze", call, timeout, cancellationToken);
        }
        catch (Exception failure) when (failure is FaultException or OperationCanceledException && cut?.TryGiveUp() == false)
        {
            return await call; // it has come just now
        }
    }

    public async Task<long> ThawAsync(TimeSpan timeout, CancellationToken cancellationToken) =>
        await WaitAsync("guest-fsfreeze-thaw", cut is { Made.IsCompletedSuccessfully: true } ? cut.Thawed : connection.StartAsync(Thaw, cancellationToken), timeout, cancellationToken);

    /// <summary>Goes on asking for some minutes, also behind a freeze that has not come yet.</summary>
    public Task AskToThawAsync(CancellationToken cancellationToken)
    {
        _ = ThawLateAsync();
        return Task.CompletedTask;
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private async Task ThawLateAsync()
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
                await connection.StartAsync(Thaw, CancellationToken.None);
                return;
            }
            catch (Exception failure) when (failure is LibvirtFailure or FaultException)
            {
                await Task.Delay(LatePause, time, CancellationToken.None);
            }
            catch (ObjectDisposedException)
            {
                return; // the agent's program ends: the watchdog, or its next start, works by the marks
            }
        }
    }

    private async Task<T> WaitAsync<T>(string command, Task<T> call, TimeSpan limit, CancellationToken cancellationToken)
    {
        try
        {
            return await call.WaitAsync(limit, time, cancellationToken);
        }
        catch (TimeoutException failure)
        {
            throw new FaultException(FaultReason.HypervisorUnavailable, $"The guest agent did not answer '{command}' within {limit.TotalSeconds:0.#} s.", failure);
        }
        catch (LibvirtFailure failure)
        {
            throw failure.Code is LibvirtFailure.NoDomain ? failure.ToFault(connection.Uri)
                : new FaultException(failure.Code is LibvirtFailure.AgentUnresponsive or LibvirtFailure.AgentUnsynchronised ? FaultReason.HypervisorUnavailable : FaultReason.FailedPrecondition,
                    $"'{command}' in the guest failed: {failure.Message}.{(failure.Code == LibvirtFailure.AgentUnresponsive ? RestartHint : "")}", failure);
        }
    }

    private string Ask(ConnectionHandle libvirt, string text, int seconds)
    {
        try
        {
            using var domain = Domains.Find(libvirt, machine);
            return LibvirtValues.TakeText(LibvirtQemuCalls.AskAgent(domain, text, seconds, 0));
        }
        catch (Exception failure) when (failure is DllNotFoundException or EntryPointNotFoundException)
        {
            throw LibvirtQemuCalls.Missing(failure);
        }
    }

    private int Freeze(ConnectionHandle libvirt)
    {
        using var domain = Domains.Find(libvirt, machine);
        return LibvirtValues.Require(LibvirtCalls.Freeze(domain, 0, 0, 0));
    }

    private int Thaw(ConnectionHandle libvirt)
    {
        using var domain = Domains.Find(libvirt, machine);
        return LibvirtValues.Require(LibvirtCalls.Thaw(domain, 0, 0, 0));
    }
}

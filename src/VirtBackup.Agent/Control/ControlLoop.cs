using System.Threading.Channels;
using Google.Protobuf.Reflection;
using Microsoft.Extensions.Logging;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Agent.Control;

/// <summary>
/// The agent's life: dial the controller, say hello, do what the newest assignments say, report, and come back after
/// every break. Work goes on while the link is down.
/// </summary>
public sealed partial class ControlLoop(
    IControlTransport transport, BackupContext context, IReadOnlyList<IHypervisor> hypervisors, string version, string hostName, ILogger<ControlLoop> logger) : IDisposable
{
    private static readonly TimeSpan ReportInterval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan InventoryInterval = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan InventoryRetry = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan InventoryRepeat = TimeSpan.FromMinutes(5);

    private readonly JobBoard _board = new(new JobWork(transport, context, hypervisors, logger));
    private readonly InventoryReader _inventory = new(hypervisors, hostName);

    /// <summary>Raised on every accepted connection, with the controller's version.</summary>
    public Action<string>? Connected { get; init; }

    /// <summary>Runs until cancelled.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: the controller does not know this agent (any more).</exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        var bootId = Id16.Create(context.Tools.Entropy).ToString();
        var backoff = new Backoff(context.Tools.Time, context.Tools.Entropy);
        try
        {
            foreach (var hypervisor in hypervisors)
            {
                await hypervisor.ReleaseGuestsAsync(cancellationToken);
            }
            RemoveRemains();
            while (true)
            {
                try
                {
                    await ServeAsync(bootId, backoff, cancellationToken);
                    LogClosed(logger);
                }
                catch (FaultException fault) when (fault.Reason is not FaultReason.Denied)
                {
                    LogBroken(logger, fault.Message);
                }
                _board.BreakGates();
                await backoff.WaitAsync(cancellationToken);
            }
        }
        finally
        {
            await _board.StopAsync();
        }
    }

    public void Dispose() => _board.Dispose();

    // The controller refuses what this program would read over.
    private static uint HighestField(MessageDescriptor options) => (uint)options.Fields.InFieldNumberOrder().Max(field => field.FieldNumber);

    private void RemoveRemains()
    {
        foreach (var folder in context.RestoreNotes?.List() ?? [])
        {
            foreach (var path in RestoreRemains.Remove(folder))
            {
                LogRemoved(logger, path);
            }
            context.RestoreNotes!.Remove(folder);
        }
    }

    private async Task ServeAsync(string bootId, Backoff backoff, CancellationToken cancellationToken)
    {
        using var loops = new LoopGroup(cancellationToken);
        await using var stream = transport.Connect(loops.Token);
        var connection = new object();
        var outgoing = Channel.CreateBounded<ConnectRequest>(64);
        var hello = new AgentHello
        {
            Version = version,
            BootId = bootId,
            Capabilities = new AgentCapabilities
            {
                Backup = true, Restore = true, Plan = true, ChangedBlockTracking = true, GuestQuiesce = true, StartOrder = true, StorageMove = true,
                RestoreOptions = HighestField(RestoreOptions.Descriptor), BackupOptions = HighestField(BackupOptions.Descriptor),
                MachineControl = hypervisors.Any(static hypervisor => hypervisor.Control is not null),
            },
        };
        hello.RunningJobs.AddRange(_board.ListJobs().Select(job => new RunningJob { JobId = job.JobId, Attempt = job.Attempt }));
        await stream.SendAsync(new ConnectRequest { Hello = hello }, cancellationToken);
        var greeted = false;
        ulong revision = 0;
        var heartbeat = TimeSpan.FromSeconds(10);
        loops.Start(async token =>
        {
            await foreach (var message in outgoing.Reader.ReadAllAsync(token))
            {
                await stream.SendAsync(message, token);
            }
        });
        loops.Start(async token =>
        {
            await foreach (var message in stream.ReceiveAsync(token))
            {
                if (!greeted)
                {
                    if (message.MessageCase != ConnectResponse.MessageOneofCase.Hello)
                    {
                        throw FaultException.Malformed("The controller did not begin with a hello.");
                    }
                    greeted = true;
                    backoff.Reset();
                    if (message.Hello.HeartbeatInterval is { Seconds: >= 1 and <= 300 } interval)
                    {
                        heartbeat = TimeSpan.FromSeconds(interval.Seconds);
                    }
                    Connected?.Invoke(message.Hello.Version);
                    loops.Start(inner => ReportAsync(outgoing.Writer, connection, inner));
                    loops.Start(inner => SendInventoryAsync(outgoing.Writer, inner));
                    loops.Start(inner => BeatAsync(outgoing.Writer, () => heartbeat, () => Interlocked.Read(ref revision), inner));
                    continue;
                }
                switch (message.MessageCase)
                {
                    case ConnectResponse.MessageOneofCase.Assignments:
                        Interlocked.Exchange(ref revision, message.Assignments.Revision);
                        _board.Apply(message.Assignments);
                        break;
                    case ConnectResponse.MessageOneofCase.GoAway:
                        LogGoAway(logger, message.GoAway.Reason);
                        loops.Stop();
                        return;
                    default:
                        throw FaultException.Malformed("The controller sent a message that does not belong on the control stream.");
                }
            }
            loops.Stop();
        });
        await loops.WhenAllAsync();
        cancellationToken.ThrowIfCancellationRequested();
    }

    private async Task ReportAsync(ChannelWriter<ConnectRequest> outgoing, object connection, CancellationToken cancellationToken)
    {
        while (true)
        {
            foreach (var report in _board.TakeReports(connection))
            {
                await outgoing.WriteAsync(new ConnectRequest { JobReport = report }, cancellationToken);
            }
            await _board.WaitForNewsAsync(ReportInterval, context.Tools.Time, cancellationToken);
        }
    }

    private async Task BeatAsync(ChannelWriter<ConnectRequest> outgoing, Func<TimeSpan> interval, Func<ulong> revision, CancellationToken cancellationToken)
    {
        while (true)
        {
            await Task.Delay(interval(), context.Tools.Time, cancellationToken);
            await outgoing.WriteAsync(new ConnectRequest { Heartbeat = new Heartbeat { AssignmentsRevisionSeen = revision() } }, cancellationToken);
        }
    }

    private async Task SendInventoryAsync(ChannelWriter<ConnectRequest> outgoing, CancellationToken cancellationToken)
    {
        Inventory? last = null;
        var (sentAt, wait) = (0L, InventoryInterval);
        while (true)
        {
            try
            {
                var now = await _inventory.ReadAsync(cancellationToken);
                wait = InventoryInterval;
                // Again and again, for a machine that another host had when it was told of: the controller believed that one.
                if (!now.Equals(last) || context.Tools.Time.GetElapsedTime(sentAt) > InventoryRepeat)
                {
                    foreach (var part in ControlMessages.Split(now))
                    {
                        await outgoing.WriteAsync(new ConnectRequest { Inventory = part }, cancellationToken);
                    }
                    (last, sentAt) = (now, context.Tools.Time.GetTimestamp());
                }
            }
            catch (FaultException fault)
            {
                // A hypervisor's trouble is not the link's: jobs go on.
                LogInventory(logger, fault.Message);
                wait = InventoryRetry;
            }
            await _board.WaitForMachinesAsync(wait, context.Tools.Time, cancellationToken);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "removed {Path}: the restore that was writing it was interrupted")]
    private static partial void LogRemoved(ILogger logger, string path);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The link to the controller broke: {Reason}")]
    private static partial void LogBroken(ILogger logger, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The machines of this host cannot be listed: {Reason}")]
    private static partial void LogInventory(ILogger logger, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "The controller ended the connection; dialing again")]
    private static partial void LogClosed(ILogger logger);

    [LoggerMessage(Level = LogLevel.Information, Message = "The controller goes away: {Reason}")]
    private static partial void LogGoAway(ILogger logger, string reason);
}

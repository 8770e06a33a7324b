using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Signals;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Controller.Control;

/// <summary>
/// Serves an agent's control stream: hello, then assignments down, heartbeats, inventory and reports up. One loop reads,
/// another writes. Safe for concurrent use.
/// </summary>
public sealed partial class AgentEndpoint(
    ControllerIdentity identity, AgentRecords agents, AgentConnections connections, JobService jobs, InventoryIntake inventory, TrackingAlerts alerts, TimeProvider time, ILogger<AgentEndpoint> logger)
{
    public static readonly TimeSpan HeartbeatInterval = TimeSpan.FromSeconds(10);

    /// <summary>A stream that is silent for this long is taken for dead. Sessions live on: their leases are longer.</summary>
    public static readonly TimeSpan SilenceMax = 3 * HeartbeatInterval;

    /// <summary>What an agent waits before it connects again to a controller that stops.</summary>
    public static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(2);

    private const int RunningJobsMax = 256;
    private const int OptionsSliceBytes = 32 << 10;

    /// <summary>Serves the stream until the agent ends it.</summary>
    /// <exception cref="FaultException">Why it was ended from this side.</exception>
    public async Task ConnectAsync(Caller caller, IServerDuplex<ConnectRequest, ConnectResponse> stream, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        ArgumentNullException.ThrowIfNull(stream);
        using var connection = new AgentConnection(caller.Name, cancellationToken);
        await using var silence = time.CreateTimer(
            static state => ((AgentConnection)state!).End(new FaultException(FaultReason.Unavailable, "Nothing was heard from the agent for too long.")),
            connection, SilenceMax, Timeout.InfiniteTimeSpan);
        var messages = stream.ReceiveAsync(connection.Ended).GetAsyncEnumerator(connection.Ended);
        try
        {
            await ServeAsync(caller, stream, connection, messages, silence);
        }
        catch (OperationCanceledException) when (connection.Reason is not null)
        {
            throw connection.Reason;
        }
        finally
        {
            connections.Close(connection);
            await messages.DisposeAsync();
        }
    }

    /// <summary>The options of an assigned job, in slices that the control plane carries.</summary>
    /// <exception cref="FaultException">The job is not the caller's, or over, or in another attempt.</exception>
    public IEnumerable<ReadTaskOptionsResponse> ReadTaskOptions(Caller caller, ReadTaskOptionsRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        var job = jobs.RequireAttempt(caller, WireText.ToId(request.JobId, "job id"), request.Attempt);
        return job.Options.Chunk(OptionsSliceBytes).Select(static slice => new ReadTaskOptionsResponse { Data = ByteString.CopyFrom(slice) });
    }

    private async Task ServeAsync(
        Caller caller, IServerDuplex<ConnectRequest, ConnectResponse> stream, AgentConnection connection, IAsyncEnumerator<ConnectRequest> messages, ITimer silence)
    {
        if (!await messages.MoveNextAsync() || messages.Current.Hello is not { } hello)
        {
            throw new FaultException(FaultReason.FailedPrecondition, "The first message of a control stream must be a hello.");
        }
        var bootId = WireText.ToId(hello.BootId, "boot id");
        if (hello.RunningJobs.Count > RunningJobsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A hello names at most {RunningJobsMax} running jobs.");
        }
        await WelcomeAsync(caller, hello, bootId, connection);
        var writing = WriteAsync(stream, connection);
        try
        {
            while (await messages.MoveNextAsync())
            {
                silence.Change(SilenceMax, Timeout.InfiniteTimeSpan);
                if (!await ReceiveAsync(caller, messages.Current, connection))
                {
                    break;
                }
            }
        }
        finally
        {
            // The writer waits for changes: the end of reading is its end too.
            connection.Finish();
            await writing;
        }
    }

    private async ValueTask WelcomeAsync(Caller caller, AgentHello hello, Id16 bootId, AgentConnection connection)
    {
        var known = await agents.FindAsync(caller.Name, connection.Ended);
        if (known is null || known.RevokedMs is not null || known.TlsKeyId != caller.KeyId)
        {
            throw new FaultException(FaultReason.Denied, $"The agent '{caller.Name}' is not enrolled with this key: enrol it again.");
        }
        connection.Abilities = new AgentAbilities(caller.Name, WireText.Shortened(hello.Version, 64), hello.Capabilities, identity.Version);
        connections.Open(connection);
        if (known.BootId != bootId)
        {
            // Before the new process is noted: what breaks off here is done when it connects again.
            await jobs.RestartAgentAsync(caller.Name, connection.Ended);
        }
        // Jobs that were made while it was away, for a newer one.
        await jobs.RefuseUnknownAsync(caller.Name, connection.Abilities, connection.Ended);
        await agents.SetConnectedAsync(caller.Name, WireText.Shortened(hello.Version, 64), bootId, time.NowMs(), connection.Ended);
        LogConnected(caller.Name, hello.Version, hello.RunningJobs.Count, known.BootId == bootId ? "same process" : "new process");
        connection.Nudge();
    }

    /// <summary>Sends the hello and then the newest assignments whenever they changed.</summary>
    private async Task WriteAsync(IServerDuplex<ConnectRequest, ConnectResponse> stream, AgentConnection connection)
    {
        await Task.Yield();
        try
        {
            await stream.SendAsync(
                new ConnectResponse
                {
                    Hello = new ControllerHello
                    {
                        ControllerId = identity.ControllerId.ToString(),
                        Version = identity.Version,
                        Capabilities = new ControllerCapabilities { RestoreGrants = true, SessionResume = true },
                        HeartbeatInterval = Duration.FromTimeSpan(HeartbeatInterval),
                    },
                },
                connection.Ended);
            while (await connection.WaitForChangeAsync())
            {
                await stream.SendAsync(new ConnectResponse { Assignments = jobs.GetAssignments(connection.Agent) }, connection.Ended);
            }
            if (connection.IsGoingAway)
            {
                await stream.SendAsync(
                    new ConnectResponse { GoAway = new GoAway { RetryAfter = Duration.FromTimeSpan(RetryAfter), Reason = "The controller ends this connection." } },
                    connection.Ended);
            }
        }
        catch (OperationCanceledException)
        {
            // The reading loop knows why.
        }
        catch (FaultException broken)
        {
            connection.End(broken);
        }
        finally
        {
            // A reader must not wait for an agent that nothing will be sent to any more.
            connection.End(new FaultException(FaultReason.Unavailable, "The controller ends this connection: connect again."));
        }
    }

    private async ValueTask<bool> ReceiveAsync(Caller caller, ConnectRequest message, AgentConnection connection)
    {
        switch (message.MessageCase)
        {
            case ConnectRequest.MessageOneofCase.Heartbeat:
                await agents.SetSeenAsync(caller.Name, time.NowMs(), connection.Ended);
                return true;
            case ConnectRequest.MessageOneofCase.Inventory:
                if (connection.Inventory.Add(message.Inventory) is { } whole)
                {
                    await inventory.ReplaceAsync(caller, whole, connection.Ended);
                }
                return true;
            case ConnectRequest.MessageOneofCase.JobReport:
                await ReportAsync(caller, message.JobReport, connection);
                return true;
            case ConnectRequest.MessageOneofCase.Goodbye:
                LogGoodbye(caller.Name, WireText.Shortened(message.Goodbye.Reason, 256));
                return false;
            default:
                throw new FaultException(FaultReason.FailedPrecondition, "This message does not belong here in a control stream.");
        }
    }

    private async ValueTask ReportAsync(Caller caller, JobReport report, AgentConnection connection)
    {
        try
        {
            await jobs.ReportAsync(caller, report, connection.Ended);
            await alerts.NoteReportAsync(caller, report, connection.Ended);
        }
        catch (FaultException refused) when (refused.Reason is FaultReason.Fenced or FaultReason.NotFound)
        {
            // An agent that lags behind: the assignments tell it what counts.
            LogRefused(caller.Name, refused.Message);
            connection.Nudge();
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Agent {Agent} connected: version {Version}, {Jobs} running jobs, {Process}.")]
    private partial void LogConnected(string agent, string version, int jobs, string process);

    [LoggerMessage(Level = LogLevel.Information, Message = "Agent {Agent} says goodbye: {Reason}")]
    private partial void LogGoodbye(string agent, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "A report of agent {Agent} was refused: {Reason}")]
    private partial void LogRefused(string agent, string reason);
}

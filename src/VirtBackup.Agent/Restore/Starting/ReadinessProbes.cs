using System.Globalization;
using System.Net.Sockets;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Restore.Starting;

/// <summary>A command that readiness probes may name.</summary>
/// <param name="InGuest">Run by the guest's agent; otherwise on this host, with VIRTBACKUP_VM, VIRTBACKUP_VM_ID and VIRTBACKUP_FOLDER in its environment.</param>
public sealed record ProbeCommand(GuestCommand Command, bool InGuest);

/// <summary>Asks whether a machine is ready. The controller chooses a probe; what commands there are, this host's configuration says alone.</summary>
public sealed class ReadinessProbes(IReadOnlyDictionary<string, ProbeCommand> commands, TimeProvider time)
{
    private static readonly TimeSpan AttemptLimit = TimeSpan.FromSeconds(5);

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the probe names what this agent does not have.</exception>
    public void Require(ReadinessProbe? probe)
    {
        if (probe is { ProbeCase: ReadinessProbe.ProbeOneofCase.Command } && !commands.ContainsKey(probe.Command))
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The readiness probe is the command '{probe.Command}', which this agent's agent.yaml does not have under 'probes'. Add it there and restart the agent, or choose another probe.");
        }
    }

    /// <summary>One attempt.</summary>
    /// <returns>Null: the machine is ready. Otherwise why it does not count as ready.</returns>
    public async Task<string?> TryAsync(ReadinessProbe? probe, RestoredMachine machine, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(machine);
        return probe?.ProbeCase switch
        {
            ReadinessProbe.ProbeOneofCase.GuestAgent => machine.Guest is not { } guest ? "it has no channel to a guest agent"
                : await guest.AnswersAsync(AttemptLimit, cancellationToken) ? null : "its guest agent does not answer",
            ReadinessProbe.ProbeOneofCase.Tcp => await TryTcpAsync(probe.Tcp, cancellationToken),
            ReadinessProbe.ProbeOneofCase.Http => await TryHttpAsync(probe.Http, cancellationToken),
            ReadinessProbe.ProbeOneofCase.Command => await TryCommandAsync(probe.Command, machine, cancellationToken),
            _ => null,
        };
    }

    private async Task<string?> TryTcpAsync(string target, CancellationToken cancellationToken)
    {
        var colon = target.LastIndexOf(':');
        if (colon <= 0 || !ushort.TryParse(target.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var port))
        {
            return $"'{target}' is not HOST:PORT";
        }
        using var limit = new CancellationTokenSource(AttemptLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        using var client = new TcpClient();
        try
        {
            await client.ConnectAsync(target[..colon].Trim('[', ']'), port, linked.Token);
            return null;
        }
        catch (SocketException failure)
        {
            return $"{target} does not accept connections: {failure.Message}";
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return $"{target} did not accept a connection within {AttemptLimit.TotalSeconds:0} s";
        }
    }

    private async Task<string?> TryHttpAsync(string url, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(AttemptLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        // A new one each time: a connection that was made before a service restarted tells nothing.
        using var handler = new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = false };
        using var client = new HttpClient(handler) { Timeout = Timeout.InfiniteTimeSpan };
        try
        {
            using var response = await client.GetAsync(new Uri(url), HttpCompletionOption.ResponseHeadersRead, linked.Token);
            return (int)response.StatusCode is >= 200 and < 400 ? null : $"{url} answered {(int)response.StatusCode}";
        }
        catch (Exception failure) when (failure is HttpRequestException or UriFormatException or InvalidOperationException or NotSupportedException)
        {
            return $"{url} does not answer: {failure.Message}";
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return $"{url} did not answer within {AttemptLimit.TotalSeconds:0} s";
        }
    }

    private async Task<string?> TryCommandAsync(string name, RestoredMachine machine, CancellationToken cancellationToken)
    {
        var (command, inGuest) = commands[name];
        if (inGuest)
        {
            return machine.Guest is not { } guest ? "it has no channel to a guest agent"
                : await guest.RunAsync(command, name, static _ => { }, cancellationToken) is { } problem ? $"the command '{name}' in the guest {problem}" : null;
        }
        string[] environment = [$"VIRTBACKUP_VM={machine.Name}", $"VIRTBACKUP_VM_ID={machine.Id}", $"VIRTBACKUP_FOLDER={machine.Details.GetValueOrDefault("folder", "")}"];
        try
        {
            var result = await new ProcessRunner(time).RunAsync("env", [.. environment, .. command.Words], command.TimeLimit, cancellationToken);
            return result.ExitCode == 0 ? null : $"the command '{name}' ended with exit code {result.ExitCode}";
        }
        catch (FaultException fault)
        {
            return $"the command '{name}' could not be run: {fault.Message}";
        }
    }
}

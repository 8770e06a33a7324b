using System.Globalization;
using VirtBackup.Catalog;
using VirtBackup.Core;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Recovery;

/// <summary>Readiness probes between the wire, the catalog and people.</summary>
internal static class Probes
{
    private const int TargetCharsMax = 2048;
    private const uint TimeoutMsDefault = 300_000;
    private const uint TimeoutMsMin = 100;
    private const uint TimeoutMsMax = 86_400_000;
    private const uint IntervalMsDefault = 1000;
    private const uint IntervalMsMin = 50;
    private const uint IntervalMsMax = 3_600_000;

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>.</exception>
    public static ProbeRow FromMessage(Id16 vmId, ReadinessProbe probe)
    {
        var timeout = probe.TimeoutMs == 0 ? TimeoutMsDefault : probe.TimeoutMs;
        var interval = probe.IntervalMs == 0 ? IntervalMsDefault : probe.IntervalMs;
        if (timeout is < TimeoutMsMin or > TimeoutMsMax || interval is < IntervalMsMin or > IntervalMsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, "A probe waits between 0.1 s and a day for readiness, and between 0.05 s and an hour between attempts.");
        }
        var (kind, target) = probe.ProbeCase switch
        {
            ReadinessProbe.ProbeOneofCase.GuestAgent => (ProbeKind.GuestAgent, ""),
            ReadinessProbe.ProbeOneofCase.Tcp => (ProbeKind.Tcp, RequireTcp(probe.Tcp)),
            ReadinessProbe.ProbeOneofCase.Http => (ProbeKind.Http, RequireUrl(probe.Http)),
            ReadinessProbe.ProbeOneofCase.Command => (ProbeKind.Command, RequireName(probe.Command)),
            _ => (ProbeKind.Started, ""),
        };
        return new ProbeRow(vmId, kind, target, timeout, interval);
    }

    /// <param name="row">Null: none was set.</param>
    public static ReadinessProbe ToMessage(ProbeRow? row)
    {
        var probe = new ReadinessProbe { TimeoutMs = (uint)(row?.TimeoutMs ?? TimeoutMsDefault), IntervalMs = (uint)(row?.IntervalMs ?? IntervalMsDefault) };
        switch (row?.Kind)
        {
            case ProbeKind.GuestAgent:
                probe.GuestAgent = true;
                break;
            case ProbeKind.Tcp:
                probe.Tcp = row.Target;
                break;
            case ProbeKind.Http:
                probe.Http = row.Target;
                break;
            case ProbeKind.Command:
                probe.Command = row.Target;
                break;
        }
        return probe;
    }

    /// <summary>In words; its first word is its kind.</summary>
    public static string Describe(ReadinessProbe probe) => probe.ProbeCase switch
    {
        ReadinessProbe.ProbeOneofCase.GuestAgent => "guest-agent",
        ReadinessProbe.ProbeOneofCase.Tcp => $"tcp {probe.Tcp}",
        ReadinessProbe.ProbeOneofCase.Http => $"http {probe.Http}",
        ReadinessProbe.ProbeOneofCase.Command => $"command {probe.Command}",
        _ => "started",
    };

    private static string RequireTcp(string target)
    {
        var colon = target.LastIndexOf(':');
        return target.Length <= TargetCharsMax && colon > 0 && ushort.TryParse(target.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port > 0
            && Uri.CheckHostName(target[..colon].Trim('[', ']')) != UriHostNameType.Unknown
            ? target : throw new FaultException(FaultReason.InvalidArgument, $"'{WireText.Shortened(target, 256)}' is not HOST:PORT: write it like 10.0.0.7:5432 or [fd00::7]:5432.");
    }

    private static string RequireUrl(string target) =>
        target.Length <= TargetCharsMax && Uri.TryCreate(target, UriKind.Absolute, out var url) && (url.Scheme == Uri.UriSchemeHttp || url.Scheme == Uri.UriSchemeHttps)
            ? target : throw new FaultException(FaultReason.InvalidArgument, $"'{WireText.Shortened(target, 256)}' is not a URL that begins with http:// or https://.");

    private static string RequireName(string name) =>
        name.Length is > 0 and <= 64 && name.All(static c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_')
            ? name : throw new FaultException(FaultReason.InvalidArgument, "A probe's command is a name from 'probes' in the agent's agent.yaml: 1 to 64 letters, digits, dots, dashes and underscores. Commands themselves are never taken from here.");
}

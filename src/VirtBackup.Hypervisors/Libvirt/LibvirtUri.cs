using System.Globalization;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>What a connection URI says about the place of its daemon.</summary>
public static class LibvirtUri
{
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromSeconds(10);

    /// <summary>Why a URI cannot be used by an agent, or null. Disks are read on the agent's own host, so the daemon must be there, too.</summary>
    public static string? ProblemOf(string? uri)
    {
        if (!Uri.TryCreate(uri, UriKind.Absolute, out var parsed) || parsed.Scheme is not ("qemu" or "qemu+unix"))
        {
            return $"'{uri}' is not a URI of QEMU machines on this host, such as {LibvirtOptions.SystemUri}, qemu:///session or qemu+unix:///system?socket=PATH";
        }
        return parsed.Host.Length > 0 ? $"'{uri}' names another host: run an agent there instead" : null;
    }

    /// <summary>The socket that the URI names, or null.</summary>
    internal static string? SocketOf(string uri) =>
        new Uri(uri).Query.TrimStart('?').Split('&').Select(part => part.Split('=', 2)).FirstOrDefault(part => part is ["socket", _])?[1] is { } socket ? Uri.UnescapeDataString(socket) : null;

    /// <summary>User and group of the socket that the URI names; null when it names none.</summary>
    internal static async Task<(int User, int Group)?> FindSocketOwnerAsync(string uri, ProcessRunner processes, CancellationToken cancellationToken)
    {
        if (SocketOf(uri) is not { } socket)
        {
            return null;
        }
        var text = await processes.RequireAsync("stat", ["-c", "%u %g", socket], ToolTimeout, cancellationToken);
        return text.Trim().Split(' ') is [var user, var group]
            && int.TryParse(user, NumberStyles.None, CultureInfo.InvariantCulture, out var uid) && int.TryParse(group, NumberStyles.None, CultureInfo.InvariantCulture, out var gid)
            ? (uid, gid) : throw FaultException.Malformed($"The owner of the socket {socket} cannot be told.");
    }
}

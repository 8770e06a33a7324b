using System.Net;
using System.Text.Json;
using VirtBackup.Testing.Installations;

namespace VirtBackup.Proofs.Replication.Sites;

/// <summary>One site pulls from another: what operators of both do, in their words.</summary>
/// <param name="Receiver">Where the copies go.</param>
/// <param name="Source">Where they come from.</param>
internal sealed record Peering(PeerSite Receiver, PeerSite Source)
{
    /// <summary>A rule by which nothing is pulled but when it is asked for.</summary>
    public static IReadOnlyList<string> OnlyWhenAsked { get; } = ["--every", "30d", "--paused"];

    /// <summary>Makes them known to each other, and lets the receiver read everything.</summary>
    /// <param name="dialled">The address of the one that is dialled.</param>
    /// <param name="offer">The source dials, not the receiver.</param>
    /// <param name="rule">When it pulls, and how.</param>
    public static async Task<Peering> BeginAsync(PeerSite receiver, PeerSite source, IPAddress dialled, bool offer, params IReadOnlyList<string> rule)
    {
        var (caller, called) = offer ? (source, receiver) : (receiver, source);
        var token = caller.Installation.File($"token-{called.Name}");
        await File.WriteAllTextAsync(token, (await called.RunAsync("peer", "token", caller.Name)).GetProperty("join_token").GetString());
        await caller.RunAsync(["peer", "add", called.Name, "--controller", $"{dialled}:{called.Installation.Port}", "--token-file", token, .. offer ? ["--offer"] : Array.Empty<string>()]);
        await source.RunAsync("peer", "allow", receiver.Name, "--all");
        var peering = new Peering(receiver, source);
        await receiver.RunAsync(["replication", "rule", "set", source.Name, .. rule]);
        return peering;
    }

    /// <summary>Pulls all that is missing, and waits for the end.</summary>
    public Task<CommandResult> PullAsync() => Receiver.Installation.RunAsync("replication", "run", Source.Name);

    /// <summary>What the receiver says of how far behind it is.</summary>
    public async Task<JsonElement> ShowAsync() => (await Receiver.RunAsync("replication", "status", Source.Name)).GetProperty("rules").EnumerateArray().Single();
}

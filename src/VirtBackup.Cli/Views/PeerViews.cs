using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

internal sealed record PeerMachineView(string VmId, string Vm)
{
    public static PeerMachineView Of(PeerMachine machine) => new(machine.VmId, machine.VmName);
}

/// <summary>A controller of another site.</summary>
/// <param name="RepositoryId">Of the other site; null: the two were never connected.</param>
/// <param name="MayCall">It holds a certificate of this site.</param>
/// <param name="Controller">Where this site dials it; null: it does not.</param>
/// <param name="Offer">This site dials it to answer, because it cannot dial.</param>
/// <param name="Allowed">What it may read when not everything.</param>
/// <param name="Problem">Why it could not be reached last; null: it could, or nobody tried.</param>
/// <param name="Unlocked">Points that were made there can be restored here.</param>
internal sealed record PeerView(
    string Name, string? RepositoryId, string? Version, DateTimeOffset? CreateTime, bool MayCall, bool Revoked, DateTimeOffset? ItsCertificateExpireTime, string? Controller,
    DateTimeOffset? OurCertificateExpireTime, bool Offer, bool AllowAll, IReadOnlyList<PeerMachineView> Allowed, bool Connected, DateTimeOffset? LastSeenTime, string? Problem, bool Unlocked)
{
    /// <summary>Names told in one line.</summary>
    private const int NamesShown = 5;

    public static PeerView Of(Peer peer) => new(
        peer.Name, WireNames.TextOrNull(peer.RepositoryId), WireNames.TextOrNull(peer.Version), WireNames.Of(peer.CreateTime), peer.MayCall, peer.Revoked,
        WireNames.Of(peer.ItsCertificateExpireTime), WireNames.TextOrNull(peer.Controller), WireNames.Of(peer.OurCertificateExpireTime), peer.Offer, peer.AllowAll,
        [.. peer.Allowed.Select(PeerMachineView.Of)], peer.Connected, WireNames.Of(peer.LastSeenTime), WireNames.TextOrNull(peer.Problem), peer.Unlocked);

    /// <summary>One word.</summary>
    public string State => Connected ? "connected" : Problem is not null ? "not reached" : Revoked ? "revoked" : Controller is null && !MayCall ? "invited" : "idle";

    /// <summary>For people.</summary>
    public string MayRead =>
        AllowAll ? "all machines" : Allowed.Count == 0 ? "nothing"
        : string.Join(", ", Allowed.Take(NamesShown).Select(static machine => machine.Vm)) + (Allowed.Count > NamesShown ? $" and {Units.Count((ulong)(Allowed.Count - NamesShown))} more" : "");
}

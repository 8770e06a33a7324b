using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Other sites' controllers for people.</summary>
internal static class PeerTables
{
    public static void WriteList(IAnsiConsole console, IReadOnlyList<PeerView> peers)
    {
        if (peers.Count == 0)
        {
            console.WriteLine("There are no peers. Have the other controller make a token (virtbackup peer token NAME), and join it: virtbackup peer add");
            return;
        }
        var table = new ColumnTable("PEER", "STATE", "DIALLED AT", "DIALS US", "MAY READ HERE", "?KEYS HERE", "?LAST SEEN", "?REPOSITORY");
        foreach (var peer in peers)
        {
            table.AddRow(
                TextLayout.Cell(peer.Name), StateOf(peer), TextLayout.Cell(DialledAt(peer)), TextLayout.Cell(DialsUs(peer)), TextLayout.Cell(peer.MayRead),
                TextLayout.Cell(peer.Unlocked ? "yes" : "no"), TextLayout.Cell(Units.Time(peer.LastSeenTime)),
                TextLayout.Cell(peer.RepositoryId is { } id ? Units.ShortId(id) : "-"));
        }
        table.Write(console);
        foreach (var peer in peers.Where(static peer => peer.Problem is not null))
        {
            console.Write(TextLayout.Cell($"{peer.Name}: {peer.Problem}", TextLayout.Bad));
            console.WriteLine();
        }
    }

    public static void WriteOne(IAnsiConsole console, PeerView peer)
    {
        TextLayout.Facts(
            console,
            ("Peer", TextLayout.Cell(peer.Name)),
            ("State", StateOf(peer)),
            ("Problem", TextLayout.Optional(peer.Problem, TextLayout.Bad)),
            ("Repository there", TextLayout.Cell(peer.RepositoryId ?? "not known yet: it was never connected")),
            ("Version there", TextLayout.Optional(peer.Version)),
            ("Dialled at", TextLayout.Cell(DialledAt(peer))),
            ("Our certificate", peer.OurCertificateExpireTime is { } ours ? TextLayout.Cell($"until {Units.Time(ours)}, renewed by itself") : null),
            ("Dials us", TextLayout.Cell(DialsUs(peer))),
            ("Its certificate", peer.ItsCertificateExpireTime is { } its && peer.MayCall ? TextLayout.Cell($"until {Units.Time(its)}, renewed by itself") : null),
            ("May read here", TextLayout.Cell(peer.MayRead)),
            ("Keys of it here", peer.Unlocked
                ? TextLayout.Cell("yes: its recovery points can be restored", TextLayout.Good)
                : TextLayout.Cell($"no: its recovery points are sealed. With its recovery kit: virtbackup peer unlock {peer.Name} --kit FILE")),
            ("Known since", TextLayout.Cell(Units.Time(peer.CreateTime))),
            ("Last seen", TextLayout.Cell(Units.Time(peer.LastSeenTime))));
        if (peer.Allowed.Count > 0)
        {
            TextLayout.Title(console, "May read");
            foreach (var machine in peer.Allowed)
            {
                console.Write(TextLayout.Cell($"{machine.Vm} ({machine.VmId})"));
                console.WriteLine();
            }
        }
    }

    private static Text StateOf(PeerView peer) => TextLayout.Cell(peer.State, peer.State switch
    {
        "connected" => TextLayout.Good,
        "not reached" or "revoked" => TextLayout.Bad,
        "invited" => TextLayout.Doubtful,
        _ => default(Style?),
    });

    private static string DialledAt(PeerView peer) => peer.Controller is null ? "-" : peer.Offer ? $"{peer.Controller} (to be asked)" : peer.Controller;

    private static string DialsUs(PeerView peer) => peer.Revoked ? "revoked" : peer.MayCall ? "yes" : "no";
}

using System.Xml.Linq;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>The document that begins a capture in pull mode (libvirt, formatbackup), and what a running job's tells.</summary>
internal static class BackupDocument
{
    /// <param name="all">All disks of the machine: what is not named would take part.</param>
    /// <param name="captured">Disks to capture, and whether by changes.</param>
    /// <param name="scratch">Where the scratch image of a target is.</param>
    public static string Write(IEnumerable<LibvirtDisk> all, IReadOnlyDictionary<string, bool> captured, Id16? basis, string socket, Func<string, string> scratch) =>
        new XElement("domainbackup", new XAttribute("mode", "pull"),
            new XElement("server", new XAttribute("transport", "unix"), new XAttribute("socket", socket)),
            new XElement("disks", all.Select(disk => !captured.TryGetValue(disk.Target, out var changedOnly)
                ? new XElement("disk", new XAttribute("name", disk.Target), new XAttribute("backup", "no"))
                : new XElement("disk", new XAttribute("name", disk.Target), new XAttribute("backup", "yes"), new XAttribute("type", "file"),
                    new XAttribute("exportname", disk.Target), new XAttribute("backupmode", changedOnly ? "incremental" : "full"),
                    changedOnly ? new XAttribute("incremental", CheckpointRecord.NameOf(basis!.Value)) : null,
                    new XElement("scratch", new XAttribute("file", scratch(disk.Target))))))).ToString(SaveOptions.DisableFormatting);

    /// <summary>The name of the bitmap that libvirt exports with a disk that is captured by changes.</summary>
    public static string BitmapOf(string target) => $"backup-{target}";

    /// <summary>The socket of a running job in pull mode; null for other jobs.</summary>
    public static string? ReadSocket(string xml) => BoundedXml.Parse(xml, "domainbackup").Text("server", "socket");
}

using System.Xml.Linq;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Libvirt.Moving;

/// <summary>A copying of libvirt's that is under way.</summary>
internal sealed record DomainMirror(string? Path, bool Ready);

/// <summary>What libvirt knows of a machine's moved disks. To be used on the thread of a call.</summary>
internal static class MovedDomain
{
    private const uint Secure = 1, Inactive = 2, NoDomain = 2, Redefine = 1;

    /// <summary>By target.</summary>
    public static Dictionary<string, DomainMirror> ReadMirrors(DomainDocument document) =>
        (document.Root.Element("devices")?.Elements("disk") ?? []).Where(static disk => disk.Element("mirror") is not null && disk.Text("target", "dev") is not null)
            .ToDictionary(static disk => disk.Text("target", "dev")!, static disk => new DomainMirror(
                disk.Element("mirror")!.Text("source", "file") ?? disk.Element("mirror")!.Text("file"), disk.Element("mirror")!.Text("ready") == "yes"), StringComparer.Ordinal);

    /// <summary>Which disks of a move the machine has at their new places: when it runs, and when it is started next.</summary>
    public static IReadOnlyList<MovingDisk> FindMoved(DomainHandle domain, IReadOnlyList<MovingDisk> disks)
    {
        var active = Domains.IsActive(domain);
        var present = PathsOf(LibvirtValues.TakeText(LibvirtCalls.GetXml(domain, active ? 0 : Inactive)));
        return [.. disks.Select(disk => disk with { Moved = present.GetValueOrDefault(disk.Node) == disk.NewPath })];
    }

    /// <summary>Gives the disks of a machine that is off their new places in its definition.</summary>
    public static void Redirect(ConnectionHandle libvirt, DomainHandle domain, IReadOnlyList<MovingDisk> disks)
    {
        var root = BoundedXml.Parse(LibvirtValues.TakeText(LibvirtCalls.GetXml(domain, Secure | Inactive)), "domain");
        foreach (var disk in root.Element("devices")?.Elements("disk") ?? [])
        {
            if (disks.FirstOrDefault(moving => moving.Node == disk.Text("target", "dev")) is { } moved && disk.Element("source") is { } source)
            {
                source.SetAttributeValue("file", moved.NewPath);
            }
        }
        using var defined = LibvirtValues.Require(LibvirtCalls.Define(libvirt, root.ToString(SaveOptions.DisableFormatting), 0));
    }

    /// <summary>Our checkpoints tell by their descriptions which images they were made of: those are the new ones now. May be repeated.</summary>
    public static void Retell(DomainHandle domain, IReadOnlyList<MovingDisk> moved, Action<string> log)
    {
        foreach (var checkpoint in Domains.ReadCheckpoints(domain, measured: false))
        {
            using var handle = LibvirtCalls.FindCheckpoint(domain, CheckpointRecord.NameOf(checkpoint.Point), 0);
            var root = BoundedXml.Parse(LibvirtValues.TakeText(LibvirtCalls.GetXml(handle, NoDomain)), "domaincheckpoint");
            var disks = checkpoint.Disks.Select(disk => moved.FirstOrDefault(entry => entry.Node == disk.Target) is { } entry && disk.Layers.Contains(entry.OldPath)
                ? disk with { Layers = [entry.NewPath] } : disk).ToList();
            if (disks.SequenceEqual(checkpoint.Disks) || root.Element("description") is not { } description)
            {
                continue;
            }
            description.Value = CheckpointRecord.DescriptionOf(disks);
            using var retold = LibvirtCalls.CreateCheckpoint(domain, root.ToString(SaveOptions.DisableFormatting), Redefine);
            if (retold.IsInvalid)
            {
                log($"libvirt does not take the new places of the checkpoint {CheckpointRecord.NameOf(checkpoint.Point)}, so that the next backup reads all: {LibvirtFailure.Last().Message}");
            }
        }
    }

    private static Dictionary<string, string?> PathsOf(string xml) => DomainDocument.Parse(xml).Disks.ToDictionary(static disk => disk.Target, static disk => disk.Path, StringComparer.Ordinal);
}

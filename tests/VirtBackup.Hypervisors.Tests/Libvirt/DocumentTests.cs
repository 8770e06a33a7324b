using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>Documents from libvirt and images, read with bounds; and the decisions that follow from them.</summary>
public class DocumentTests
{
    private static readonly Id16 Machine = Id16.Parse("0123456789abcdef0123456789abcdef");

    [Fact]
    public void Hostile_documents_are_refused()
    {
        foreach (var xml in new[]
        {
            "", "<domain", "<other/>", "<!DOCTYPE x [<!ENTITY a 'b'>]><domain><name>&a;</name></domain>",
            "<domain><name>x</name></domain>", "<domain><name>x</name><uuid>nonsense</uuid></domain>",
            $"<domain>{string.Concat(Enumerable.Repeat("<a>", 1000))}{string.Concat(Enumerable.Repeat("</a>", 1000))}</domain>",
            $"<domain>{string.Concat(Enumerable.Repeat("<a/>", 200_000))}</domain>",
            Domain("<disk type='file'><target dev='../x'/></disk>"), Domain("<disk type='file'/>"),
            Domain("<disk type='file'><target dev='vda'/></disk><disk type='file'><target dev='vda'/></disk>"),
        })
        {
            Assert.Equal(FaultReason.Malformed, Assert.Throws<FaultException>(() => DomainDocument.Parse(xml)).Reason);
        }
    }

    [Fact]
    public void A_backing_chain_a_thread_and_the_owner_are_found()
    {
        var document = DomainDocument.Parse(Domain("""
            <controller type='scsi' index='1'><driver iothread='1'/></controller>
            <disk type='file' device='disk'><driver type='qcow2'/><source file='/a'/><backingStore type='file'><source file='/b'/><backingStore type='block'><source dev='/c'/></backingStore></backingStore><target dev='vda' bus='virtio'/></disk>
            <disk type='file' device='disk'><source file='/d'/><target dev='sda' bus='scsi'/><address type='drive' controller='1'/></disk>
            <disk type='block' device='disk'><driver type='raw' iothread='2'/><source dev='/e'/><target dev='vdb' bus='virtio'/></disk>
            """, "<seclabel type='dynamic' model='dac'><label>+64055:+108</label></seclabel>"));
        Assert.Equal(["/a", "/b", "/c"], document.Disks[0].Layers);
        Assert.Equal([false, true, true], document.Disks.Select(disk => disk.IoThread));
        Assert.Equal((64055, 108), document.FindOwner());
    }

    [Fact]
    public void A_checkpoints_description_tells_what_its_disks_were()
    {
        var disk = new DomainDisk("vda", "/img/ä b;c", "qcow2", ["/img/ä b;c", "/img/base"], null, false);
        var xml = CheckpointRecord.Write(Machine, [disk], [new CheckpointedDisk("vda", 1234, disk.Layers)]).Replace("checkpoint=\"bitmap\"", "checkpoint=\"bitmap\" size=\"77\"", StringComparison.Ordinal);
        var record = CheckpointRecord.Parse(xml)!;
        Assert.Equal(Machine, record.Point);
        Assert.Equal(77, record.Tracked["vda"]);
        Assert.Equal(1234, Assert.Single(record.Disks).LengthBytes);
        Assert.Equal(disk.Layers, record.Disks[0].Layers);
        Assert.Null(CheckpointRecord.Parse("<domaincheckpoint><name>virtbackup-nonsense</name></domaincheckpoint>"));
        Assert.Empty(CheckpointRecord.Parse(xml.Replace("virtbackup disks 1", "something else", StringComparison.Ordinal))!.Disks);
    }

    [Theory]
    [InlineData(1234, "/a", 5L, "changed blocks only")]
    [InlineData(1235, "/a", 5L, "resized from 1234 to 1235")]
    [InlineData(1234, "/swapped", 5L, "another image")]
    [InlineData(1234, "/other", 5L, "another image")]
    [InlineData(1234, "/a", null, "not shut down cleanly")]
    public void A_disk_is_read_by_changes_only_when_it_is_the_same(long length, string top, long? dirty, string reason)
    {
        var record = new CheckpointRecord(Machine,
            [new CheckpointedDisk("vda", 1234, ["/a", "/base"]), new CheckpointedDisk("vdb", 1234, ["/swapped", "/base"])],
            new Dictionary<string, long?> { ["vda"] = dirty, ["vdb"] = 0 });
        var source = new DomainDisk("vda", top, "qcow2", top == "/other" ? [top] : [top, "/base"], null, false);
        var disk = new LibvirtDisk(new DiskSummary(Machine, "vda", length, "qcow2", null), source, 0, KeepsBitmaps: true);
        var (changedOnly, said) = TrackingChoice.Choose(record, Machine, disk);
        Assert.Equal(reason == "changed blocks only", changedOnly);
        Assert.Contains(reason, said, StringComparison.Ordinal);
    }

    [Fact]
    public void Bitmaps_of_ours_are_found_in_an_images_description()
    {
        var json = """{"format-specific":{"data":{"bitmaps":[{"name":"virtbackup-ID"},{"name":"virtnbdbackup.0"},{"name":"virtbackup-ID-12345678-400"}]}}}"""
            .Replace("ID", Machine.ToString(), StringComparison.Ordinal);
        Assert.Equal([Machine], BitmapInspector.Read(json));
        Assert.Empty(BitmapInspector.Read("{\"format-specific\":7}"));
        Assert.Empty(BitmapInspector.Read("nonsense"));
    }

    [Fact]
    public void Disks_on_another_bus_get_places_of_their_own()
    {
        var domain = DomainDocument.Parse(Domain("""
            <controller type='scsi' index='0' model='lsilogic'/>
            <disk type='file' device='disk'><driver name='qemu' type='qcow2' queues='2' iothread='1'/><source file='/a'/><target dev='vda' bus='virtio'/><address type='pci' slot='4'/></disk>
            <disk type='file' device='disk'><source file='/b'/><target dev='sda' bus='sata'/><address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>
            <disk type='file' device='disk'><source file='/c'/><target dev='vdb' bus='virtio'/><address type='pci' slot='5'/></disk>
            <disk type='file' device='disk'><source file='/d'/><target dev='vdc' bus='virtio'/><address type='pci' slot='6'/></disk>
            """, "<os><type machine='pc-q35-7.2'>hvm</type></os>")).Root;
        var disks = domain.Descendants("disk").ToList();
        var findings = new List<RestoreFinding>();
        var mapping = new DomainBusMapping(domain, findings);
        mapping.Attach(disks[0], "vda", "sata");
        mapping.Attach(disks[2], "vdb", "scsi");
        mapping.Attach(disks[3], "vdc", "ide");
        Assert.Equal("<target dev=\"vda\" bus=\"sata\" /><address type=\"drive\" controller=\"0\" bus=\"0\" target=\"0\" unit=\"1\" />", string.Concat(disks[0].Elements().Skip(2)));
        Assert.Equal("<driver name=\"qemu\" type=\"qcow2\" />", disks[0].Element("driver")!.ToString());
        // Not to the controller that most guests have no driver for.
        Assert.Equal("1", disks[2].Element("address")!.Attribute("controller")!.Value);
        Assert.Equal("virtio-scsi", domain.Descendants("controller").Last().Attribute("model")!.Value);
        Assert.Equal("virtio", disks[3].Element("target")!.Attribute("bus")!.Value);
        Assert.Equal([FindingSeverity.Adapts, FindingSeverity.Adapts, FindingSeverity.Blocks], findings.Select(finding => finding.Severity));
    }

    [Theory]
    [InlineData("/pool", FindingSeverity.Fits)]
    [InlineData("/pool/below/", FindingSeverity.Fits)]
    [InlineData("/poolside", null)]
    [InlineData("/mounted/x", FindingSeverity.Blocks)]
    [InlineData("/off", FindingSeverity.Adapts)]
    [InlineData("/dev/group", FindingSeverity.Blocks)]
    public void A_folder_of_a_pool_is_used_only_where_the_pool_has_files(string folder, FindingSeverity? severity) =>
        Assert.Equal(severity, StoragePools.Judge(folder,
        [
            new StoragePool("a", "dir", "/pool", Active: true), new StoragePool("b", "netfs", "/mounted", Active: false),
            new StoragePool("c", "dir", "/off", Active: false), new StoragePool("d", "logical", "/dev/group", Active: true),
        ])?.Severity);

    private static string Domain(string devices, string more = "") => $"<domain><name>x</name><uuid>{Machine}</uuid><devices>{devices}</devices>{more}</domain>";
}

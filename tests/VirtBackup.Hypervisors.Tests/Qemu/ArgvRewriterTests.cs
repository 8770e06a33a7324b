using System.Text.Json;
using CsCheck;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

public sealed class ArgvRewriterTests
{
    private static readonly Id16 Original = Id16.Parse("11111111111141118111111111111111");

    private static RewrittenArgv Rewrite(bool keepIdentity, string format, params string[] arguments)
    {
        var document = new ArgvDocument("/usr/bin/qemu-system-x86_64", "/", arguments, [], "/run/vm/qmp.sock", "/run/vm/qga.sock");
        var request = new RestoreRequest(Original, new Id16(1), "qemu", new MachineConfiguration("vm", default, ArgvDocument.Kind, document.Write()), [], "/srv/new", "new-name")
        {
            KeepIdentity = keepIdentity,
        };
        return new ArgvRewriter(document, request, [new ImageReplacement("/vm/a,b.qcow2", $"/srv/new/a.{format}", format, "a")], SystemEntropy.Instance).Rewrite();
    }

    [Theory]
    [InlineData("-drive", "file=/vm/a,,b.qcow2,format=qcow2,if=virtio", "file=/srv/new/a.raw,format=raw,if=virtio")]
    [InlineData("-drive", "file=/vm/a,,b.qcow2,if=none,id=d", "file=/srv/new/a.raw,if=none,id=d,format=raw")]
    [InlineData("-drive", "driver=qcow2,file.driver=file,file.filename=/vm/a,,b.qcow2,if=none,id=d", "driver=raw,file.driver=file,file.filename=/srv/new/a.raw,if=none,id=d")]
    [InlineData("-blockdev", "driver=qcow2,node-name=n,file.driver=host_device,file.filename=/vm/a,,b.qcow2", "driver=raw,node-name=n,file.driver=file,file.filename=/srv/new/a.raw")]
    [InlineData("-blockdev", """{"driver":"qcow2","node-name":"n","file":{"driver":"file","filename":"/vm/a,b.qcow2"},"backing":null}""", """{"driver":"raw","node-name":"n","file":{"driver":"file","filename":"/srv/new/a.raw"}}""")]
    [InlineData("-hda", "/vm/a,b.qcow2", "/srv/new/a.raw")]
    public void A_disk_is_found_in_every_form(string option, string before, string after)
    {
        var result = Rewrite(true, "raw", option, before);
        Assert.Empty(result.Findings);
        Assert.Equal([option, after], result.Arguments.Take(2));
    }

    [Fact]
    public void Separate_protocol_and_format_nodes_change_together()
    {
        var result = Rewrite(true, "raw",
            "-blockdev", "driver=file,node-name=p,filename=/vm/a,,b.qcow2", "-blockdev", "driver=qcow2,node-name=f,file=p,backing=base",
            "-blockdev", """{"driver":"qcow2","node-name":"g","file":"p"}""");
        Assert.Equal(["driver=file,node-name=p,filename=/srv/new/a.raw", "driver=raw,node-name=f,file=p", """{"driver":"raw","node-name":"g","file":"p"}"""],
            [result.Arguments[1], result.Arguments[3], result.Arguments[5]]);
    }

    [Fact]
    public void Sockets_files_name_and_identity_move_and_the_rest_stays()
    {
        using var folder = new LabDirectory();
        var kernel = folder.File("kernel");
        File.WriteAllText(kernel, "");
        string[] arguments =
        [
            "-name", "guest=old,debug-threads=on", "-uuid", Original.ToUuidString(), "-machine", "q35", "-daemonize", "-S", "-incoming", "tcp:0:4444", "-pidfile", "/run/vm/pid",
            "-qmp", "unix:/run/vm/other.sock,server=on,wait=off", "-chardev", "socket,id=m,path=/run/vm/qmp.sock,server=on,wait=off", "-mon", "chardev=m,mode=control",
            "-chardev", "socket,id=g,path=/run/vm/qga.sock,server=on,wait=off", "-serial", "file:/run/vm/serial.log", "-monitor", "mon:stdio",
            "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01", "-device", """{"driver":"e1000","netdev":"n1","mac":"52:54:00:00:00:02"}""", "-device", "virtio-rng-pci",
            "-vnc", ":1", "-smbios", $"type=1,uuid={Original.ToUuidString()},serial=5", "-kernel", kernel, "-append", "console=ttyS0 a=b,c", "-drive", "file=/vm/a,,b.qcow2,format=qcow2",
        ];
        var fresh = Rewrite(false, "qcow2", arguments);
        Assert.NotEqual(Original, fresh.Uuid);
        var text = string.Join('\n', fresh.Arguments);
        Assert.DoesNotContain(fresh.Arguments, argument => argument is "-daemonize" or "-S" or "-incoming" or "tcp:0:4444");
        Assert.DoesNotContain("/run/vm/", text, StringComparison.Ordinal);
        Assert.DoesNotContain(Original.ToUuidString(), text, StringComparison.Ordinal);
        Assert.DoesNotContain("52:54:00:00:00:0", text, StringComparison.Ordinal);
        foreach (var expected in new[]
        {
            "guest=new-name,debug-threads=on", fresh.Uuid.ToUuidString(), "socket,id=m,path=/srv/new/qmp.sock,server=on,wait=off", "unix:/srv/new/other.sock,server=on,wait=off",
            "socket,id=g,path=/srv/new/guest-agent.sock,server=on,wait=off", "file:/srv/new/serial.log", "/srv/new/pid", "mon:stdio", "unix:/srv/new/vnc.sock", "virtio-rng-pci",
            "type=1,serial=5", "console=ttyS0 a=b,c", kernel, "q35",
        })
        {
            Assert.Contains(expected, fresh.Arguments);
        }
        Assert.Equal("/srv/new/guest-agent.sock", fresh.GuestAgentSocket);
        Assert.DoesNotContain(fresh.Findings, finding => finding.Severity == FindingSeverity.Blocks);

        var kept = string.Join('\n', Rewrite(true, "qcow2", arguments).Arguments);
        foreach (var expected in new[] { Original.ToUuidString(), "52:54:00:00:00:01", "52:54:00:00:00:02", "\n:1\n" })
        {
            Assert.Contains(expected, kept, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("virtio", "scsi-hd,id=a,drive=n,serial=s,bus=scsi0.0,lun=3", "virtio-blk-pci,id=a,drive=n,serial=s", null)]
    [InlineData("scsi", "virtio-blk-pci,drive=n,id=a,iothread=i,addr=5,bootindex=1", "scsi-hd,drive=n,id=a,bootindex=1,bus=virtbackup-scsi.0", "virtio-scsi-pci,id=virtbackup-scsi")]
    [InlineData("ide", "virtio-blk-pci,drive=n,id=a", "ide-hd,drive=n,id=a", null)]
    [InlineData("sata", "virtio-blk-pci,drive=n,id=a", "ide-hd,drive=n,id=a,bus=virtbackup-ahci.0", "ich9-ahci,id=virtbackup-ahci")]
    [InlineData("scsi", """{"driver":"virtio-blk-pci","drive":"n","id":"a","num-queues":4}""", """{"drive":"n","id":"a","driver":"scsi-hd","bus":"virtbackup-scsi.0"}""", "virtio-scsi-pci,id=virtbackup-scsi")]
    public void A_disk_moves_to_another_bus(string bus, string before, string after, string? controller)
    {
        var findings = new List<RestoreFinding>();
        var disk = new RestoreDisk(new Id16(1), "a", 512, "raw", 0) { Bus = bus };
        var options = new BusMapping([disk], findings).Apply([new("machine", "pc"), new("device", before), new("device", "virtio-rng-pci")]);
        var expected = new List<ArgvOption> { new("machine", "pc"), new("device", after), new("device", "virtio-rng-pci") };
        if (controller is not null) expected.Insert(1, new ArgvOption("device", controller));
        Assert.Equal(expected, options);
        Assert.Equal(FindingSeverity.Adapts, Assert.Single(findings).Severity);
    }

    [Fact]
    public void A_bus_that_cannot_be_changed_blocks()
    {
        var findings = new List<RestoreFinding>();
        var disks = new[] { new RestoreDisk(new Id16(1), "gone", 512, "raw", 0) { Bus = "scsi" }, new RestoreDisk(new Id16(2), "a", 512, "raw", 0) { Bus = "nvme" } };
        ArgvOption[] options = [new("device", "virtio-blk-pci,drive=n,id=a")];
        Assert.Equal(options, new BusMapping(disks, findings).Apply([.. options]));
        Assert.All(findings, finding => Assert.Equal(FindingSeverity.Blocks, finding.Severity));
        Assert.Equal(2, findings.Count);
    }

    [Theory]
    [InlineData("netdev", "bridge,id=n0,br=old", "old", "new", "bridge,id=n0,br=new")]
    [InlineData("netdev", "bridge,id=n0", "br0", "new", "bridge,id=n0,br=new")]
    [InlineData("netdev", "tap,id=n0,ifname=tap3,script=/etc/up", "tap3", "tap9", "tap,id=n0,ifname=tap9,script=no,downscript=no")]
    [InlineData("netdev", "user,id=n0,hostfwd=tcp::22-:22", "n0", "br7", "bridge,id=n0,br=br7")]
    [InlineData("netdev", "bridge,id=n0,br=old", "old", "isolated", "user,id=n0,restrict=on")]
    [InlineData("nic", "bridge,br=old,model=e1000,mac=52:54:00:00:00:01", "old", "new", "bridge,br=new,mac=52:54:00:00:00:01,model=e1000")]
    [InlineData("netdev", """{"type":"bridge","id":"n0","br":"old"}""", "old", "new", "bridge,id=n0,br=new")]
    public void A_card_moves_to_another_network(string option, string before, string from, string to, string after)
    {
        var findings = new List<RestoreFinding>();
        var options = new NetworkRemapping([new NetworkMapping(from, to)], findings).Apply([new(option, before), new("netdev", "user,id=other")]);
        Assert.Equal([new ArgvOption(option, after), new("netdev", "user,id=other")], options);
        Assert.Equal(FindingSeverity.Adapts, Assert.Single(findings).Severity);
    }

    [Fact]
    public void A_network_that_nobody_has_blocks_and_names_those_there_are()
    {
        var findings = new List<RestoreFinding>();
        new NetworkRemapping([new NetworkMapping("nosuch", "new")], findings).Apply([new("netdev", "bridge,id=n0,br=lan")]);
        var finding = Assert.Single(findings);
        Assert.Equal(FindingSeverity.Blocks, finding.Severity);
        Assert.Contains("lan, n0", finding.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_missing_blocks_and_a_monitor_is_added_where_there_was_none()
    {
        var result = Rewrite(true, "qcow2", "-kernel", "/nowhere/vmlinuz", "-drive", "file=/nowhere/data.img,if=virtio", "-chardev", "socket,id=t,path=/nowhere/tpm.sock");
        var blocks = result.Findings.Where(finding => finding.Severity == FindingSeverity.Blocks).Select(finding => finding.Message).ToList();
        Assert.Equal(4, blocks.Count);
        foreach (var missing in new[] { "/nowhere/vmlinuz", "/nowhere/data.img", "/nowhere/tpm.sock", "/vm/a,b.qcow2" })
        {
            Assert.Contains(blocks, message => message.Contains(missing, StringComparison.Ordinal));
        }
        Assert.Contains("unix:/srv/new/qmp.sock,server=on,wait=off", result.Arguments);
    }

    private static readonly Gen<string> OptionTexts = Gen.Char["ab=,. :/"].Array[0, 24].Select(characters => new string(characters));

    [Fact]
    public void Option_text_survives_reading_and_writing() => OptionTexts.Sample(text =>
    {
        var once = OptionText.Parse(text);
        var twice = OptionText.Parse(once.ToString());
        Assert.Equal(once.Parts, twice.Parts);
        Assert.Equal(once.ToString(), twice.ToString());
    }, iter: 5000);

    private static readonly Gen<string[]> Arguments = Gen.OneOf(OptionTexts,
        Gen.Int[0, 9].Select(i => new[] { "-drive", "-blockdev", "-device", "-S", "-qmp", "{", "{\"file\":{\"filename\":5}}", "-chardev", "-name", "{\"node-name\":[]}" }[i])).Array[0, 12];

    [Fact]
    public void No_stored_command_line_breaks_the_check() => Arguments.Sample(arguments =>
    {
        try
        {
            Assert.NotNull(Rewrite(false, "qcow2", arguments).Findings);
        }
        catch (FaultException fault)
        {
            Assert.Equal(FaultReason.Malformed, fault.Reason);
        }
    }, iter: 5000);

    [Fact]
    public void A_damaged_document_is_refused()
    {
        var whole = new ArgvDocument("/bin/qemu", "/", ["-S"], [new ArgvDisk("1", "n", "f", "raw", true)], "/q", null).Write();
        Assert.Equal(["-S"], ArgvDocument.Read(whole).Arguments);
        foreach (var text in new[] { "", "{}", "null", "[]", """{"executable":"/bin/qemu","workingDirectory":"/","arguments":null,"disks":[],"qmpSocket":"/q"}""", """{"executable":"x","workingDirectory":"relative","arguments":[],"disks":[],"qmpSocket":"/q"}""" })
        {
            Assert.Equal(FaultReason.Malformed, Assert.Throws<FaultException>(() => ArgvDocument.Read(System.Text.Encoding.UTF8.GetBytes(text))).Reason);
        }
        Assert.Equal(JsonValueKind.Object, JsonDocument.Parse(whole).RootElement.ValueKind);
    }
}

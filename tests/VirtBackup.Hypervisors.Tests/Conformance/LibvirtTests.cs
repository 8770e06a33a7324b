using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Tests.Libvirt;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Platforms;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>
/// The port on a real libvirt and a QEMU whose processors never start, so that its disks change only when a test writes to
/// them. libvirt's calls go through a port, so that a driver can be killed or cancelled at any of them; with a machine for every
/// call that would take an hour, so one machine meets all troubles in turn.
/// </summary>
[Collection(SharedLibvirt.Collection)]
public sealed class LibvirtTests(SharedLibvirt shared) : TrackingConformance
{
    protected override async Task<TrackingMachine> StartTrackingAsync() => await StillLibvirtMachine.StartAsync(shared.Daemon);

    /// <summary>One history with every outcome after several others: each costs a start of QEMU.</summary>
    protected override IEnumerable<Outcome[]> Histories() => [Enum.GetValues<Outcome>()];

    [Fact]
    public async Task Trouble_at_calls_loses_nothing_and_leaves_nothing_after_the_next_settlement()
    {
        (End, bool)[] ends = [(End.Commit, true), (End.Abandon, false), (End.Detach, true), (End.Detach, false)];
        var troubles = Enum.GetValues<Trouble>();
        await using var machine = await StillLibvirtMachine.StartAsync(shared.Daemon);
        await machine.MakeForeignAsync();
        var foreign = await machine.DescribeForeignAsync();
        var book = new PointBook(machine);
        await book.BackUpAsync(machine.Connect());
        for (var (at, isOver) = (1, false); !isOver; at++)
        {
            var (end, isCommitted) = ends[at % ends.Length];
            isOver = await FaultTrial.RunAsync(machine, book, troubles[at % troubles.Length], at, end, isCommitted);
        }
        Assert.Equal(foreign, await machine.DescribeForeignAsync());
    }

    [Fact]
    public async Task A_capture_that_cannot_begin_leaves_nothing_at_once()
    {
        Trouble[] troubles = [Trouble.Refused, Trouble.AnswerLost, Trouble.Cancelled];
        await using var machine = await StillLibvirtMachine.StartAsync(shared.Daemon);
        var book = new PointBook(machine);
        var made = await book.BackUpAsync(machine.Connect());
        for (var (at, hasBegun) = (1, false); !hasBegun; at++)
        {
            var (link, cancel) = FaultTrial.LinkWith(troubles[at % troubles.Length], at);
            using var _ = cancel;
            try
            {
                await using var capture = await machine.Connect(link).BeginCaptureAsync(book.Request(made.Point), cancel.Token);
                hasBegun = true;
            }
            catch (Exception failure) when (failure is FaultException or OperationCanceledException)
            {
                await machine.RequireTidyAsync();
                await machine.RequireTrackedAsync(book, made.Point);
            }
        }
    }
}

/// <summary>One libvirtd for machines that come one after the other.</summary>
[CollectionDefinition(Collection)]
public sealed class SharedLibvirt : IAsyncLifetime, ICollectionFixture<SharedLibvirt>
{
    public const string Collection = "machines that stand still";

    internal LabLibvirt Daemon { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Daemon = await LabLibvirt.StartAsync();
        // The fleece folder below it must be reachable by QEMU's user.
        await Proc.CheckAsync("chmod", ["711", Daemon.Folder]);
        // The library's event loop takes a thread for good: not one that a test counts.
        await using var driver = new LibvirtHypervisor(new LibvirtOptions([Daemon.Uri], Daemon.File("f")), TimeProvider.System, SystemEntropy.Instance, new WaitingThreads());
        await driver.ListMachinesAsync(default);
    }

    public ValueTask DisposeAsync() => Daemon.DisposeAsync();
}

/// <summary>Calls of libvirt over a link on which things go wrong.</summary>
internal sealed class LinkedCalls(ServerLink link) : IBlockingCalls
{
    /// <summary>The test is over: what is left is closed without trouble.</summary>
    public bool IsOver { get; set; }

    public async Task<T> RunAsync<T>(Func<T> call) => IsOver ? call() : await link.CallAsync("libvirt", call, CancellationToken.None);
}

internal sealed class StillLibvirtMachine : ServerMachine
{
    private static int count;
    private readonly Dictionary<string, string> disks = [];
    private readonly List<LibvirtHypervisor> drivers = [];
    private readonly List<LinkedCalls> links = [];
    private readonly LabLibvirt libvirt;
    private readonly LabDomain domain;
    private readonly LibvirtConnection monitor;
    private readonly string folder;
    private int files;

    private StillLibvirtMachine(LabLibvirt libvirt)
    {
        this.libvirt = libvirt;
        domain = new LabDomain(libvirt, Name, Guid.NewGuid());
        folder = Directory.CreateDirectory(libvirt.File($"m{Interlocked.Increment(ref count)}")).FullName;
        monitor = new LibvirtConnection(libvirt.Uri, Options, TimeProvider.System, new WaitingThreads());
    }

    public LabDomain Domain => domain;

    public override Id16 Id => new(UInt128.Parse(domain.Uuid.ToString("N"), System.Globalization.NumberStyles.AllowHexSpecifier));

    public override IReadOnlyList<string> Disks => [.. disks.Keys];

    public override IReadOnlyList<string> SkippedDisks => ["sdz"];

    public bool IsOff { get; private set; } = true;

    /// <param name="starts">Otherwise it is off.</param>
    public static async Task<StillLibvirtMachine> StartAsync(LabLibvirt libvirt, bool starts = true)
    {
        var machine = new StillLibvirtMachine(libvirt);
        try
        {
            foreach (var target in new[] { "sda", "sdb" })
            {
                await machine.MakeImageAsync(target, ServerDisks.Sparse(new Random(5), 1 << 20));
            }
            await File.WriteAllBytesAsync(machine.PathOf("medium"), new byte[64 << 10]);
            await libvirt.GiveAsync(machine.folder);
            var medium = $"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{machine.PathOf("medium")}'/><target dev='sdz' bus='sata'/><readonly/></disk>";
            var xml = string.Concat(machine.disks.Select(disk => DiskXml(disk.Key, disk.Value))) + medium;
            await machine.domain.DefineAsync(machine.domain.Xml(xml, "<controller type='scsi' index='0' model='virtio-scsi'/>"));
            if (starts)
            {
                await machine.PowerOnAsync();
            }
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    public override IHypervisor Connect() => Connect(new WaitingThreads());

    internal override IHypervisor Connect(ServerLink link)
    {
        links.Add(new LinkedCalls(link));
        return Connect(links[^1]);
    }

    public async Task PowerOnAsync()
    {
        await libvirt.VirshAsync("start", Name, "--paused");
        IsOff = false;
    }

    /// <summary>QEMU ends in order, and stores what it knows of changes.</summary>
    public async Task PowerOffAsync()
    {
        await libvirt.VirshAsync("destroy", Name);
        IsOff = true;
    }

    public override async Task WriteAsync(string disk, long offset, byte[] data)
    {
        var source = PathOf($"data-{files++}");
        await File.WriteAllBytesAsync(source, data);
        var command = $"write -s {source} {offset} {data.Length}";
        var said = IsOff ? await Proc.CheckAsync("qemu-io", ["-f", "qcow2", "-c", command, disks[disk]]) : await AskMonitorAsync("human-monitor-command",
            new JsonObject { ["command-line"] = $"qemu-io -d ua-{disk} \"{command}\"" });
        Assert.DoesNotContain("rror", said, StringComparison.Ordinal);
        File.Delete(source);
    }

    public override async Task<byte[]> ReadAsync(string disk) => await ReadImageAsync(disks[disk]);

    public override async Task<string?> FindLeftoversAsync()
    {
        var job = await libvirt.TryVirshAsync("backup-dumpxml", Name);
        var files = Directory.Exists(libvirt.File("f")) ? Directory.GetFileSystemEntries(libvirt.File("f")) : [];
        return job.ExitCode != 0 && files.Length == 0 ? null : $"{job.Stdout}, files [{string.Join(' ', files)}]";
    }

    /// <summary>It is off, and one of its disks is gone.</summary>
    public override async Task BreakAsync()
    {
        await PowerOffAsync();
        File.Move(disks["sdb"], PathOf("away"));
    }

    public override async Task LoseTrackingAsync()
    {
        await domain.KillAsync();
        await PowerOnAsync();
    }

    public override async Task<string> AddDiskAsync(byte[] content)
    {
        await MakeImageAsync("sdc", content);
        await libvirt.GiveAsync(disks["sdc"]);
        var xml = PathOf("sdc.xml");
        await File.WriteAllTextAsync(xml, DiskXml("sdc", disks["sdc"]));
        await libvirt.VirshAsync("attach-device", Name, xml, "--live");
        return "sdc";
    }

    public override async Task RemoveDiskAsync(string disk)
    {
        await libvirt.VirshAsync("detach-disk", Name, disk, "--live");
        disks.Remove(disk);
    }

    public override async Task GrowDiskAsync(string disk, long length)
    {
        if (IsOff)
        {
            await Proc.CheckAsync("qemu-img", ["resize", "-q", "-f", "qcow2", disks[disk], $"{length}"]);
            return;
        }
        await libvirt.VirshAsync("blockresize", Name, disk, $"{length}B");
    }

    /// <summary>Puts an overlay on a disk of a machine that is off, by hand: libvirt does not while it has checkpoints.</summary>
    public async Task AddOverlayAsync(string disk)
    {
        var (below, overlay) = (disks[disk], PathOf($"{disk}-overlay.qcow2"));
        await Proc.CheckAsync("qemu-img", ["create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", overlay]);
        await libvirt.GiveAsync(overlay);
        await domain.DefineAsync((await libvirt.VirshAsync("dumpxml", Name, "--inactive")).Replace(below, overlay, StringComparison.Ordinal));
        disks[disk] = overlay;
    }

    public override Task MakeForeignAsync() => libvirt.VirshAsync("checkpoint-create-as", Name, "other-tool");

    public override async Task<string> DescribeForeignAsync()
    {
        var nodes = JsonDocument.Parse(await AskMonitorAsync("query-named-block-nodes", new JsonObject { ["flat"] = true })).RootElement;
        var bitmaps = from node in nodes.GetProperty("return").EnumerateArray()
                      where node.TryGetProperty("dirty-bitmaps", out _)
                      from bitmap in node.GetProperty("dirty-bitmaps").EnumerateArray()
                      where bitmap.TryGetProperty("name", out var name) && name.GetString() == "other-tool"
                      select $"{node.GetProperty("file").GetString()} {bitmap.GetProperty("recording").GetBoolean()}";
        var checkpoints = (await CheckpointsAsync()).Where(name => !name.StartsWith("virtbackup-", StringComparison.Ordinal));
        return string.Join(' ', checkpoints.Concat(bitmaps.Order()));
    }

    public async Task<string[]> CheckpointsAsync() =>
        (await libvirt.VirshAsync("checkpoint-list", Name, "--name")).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    public override string NewRestoreFolder() => PathOf($"r{files++}");

    public override bool HasRestored(string folder) => Directory.Exists(folder);

    public override Task<byte[]> ReadRestoredAsync(RestoredMachine restored, string disk) => ReadImageAsync(restored.Details[$"disk {disk}"]);

    public string ImageOf(string disk) => disks[disk];

    public string PathOf(string name) => Path.Combine(folder, name);

    public string StateFolder => PathOf("state");

    /// <summary>A disk lies elsewhere now.</summary>
    public void FollowMove(string disk, string path) => disks[disk] = path;

    public override async ValueTask DisposeAsync()
    {
        links.ForEach(static link => link.IsOver = true);
        foreach (var driver in drivers)
        {
            await driver.DisposeAsync();
        }
        await monitor.DisposeAsync();
        await libvirt.TryVirshAsync("destroy", Name);
        foreach (var name in (await libvirt.VirshAsync("list", "--all", "--name")).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            await libvirt.TryVirshAsync("undefine", name, "--checkpoints-metadata");
        }
        Directory.Delete(folder, recursive: true);
    }

    private LibvirtOptions Options => new([libvirt.Uri], libvirt.File("f")) { FleeceFreeBytesMin = 1 << 20, Include = new HashSet<string> { Name }, StateFolder = StateFolder };

    private LibvirtHypervisor Connect(IBlockingCalls calls)
    {
        drivers.Add(new LibvirtHypervisor(Options, TimeProvider.System, SystemEntropy.Instance, calls));
        return drivers[^1];
    }

    private Task<string> AskMonitorAsync(string command, JsonObject arguments) => monitor.QueryAsync(connection =>
    {
        using var found = Domains.Find(connection, Id);
        LibvirtValues.Require(LibvirtQemuCalls.AskMonitor(found, new JsonObject { ["execute"] = command, ["arguments"] = arguments }.ToJsonString(), out var reply, 0));
        return LibvirtValues.TakeText(reply);
    }, default);

    private static string DiskXml(string target, string path) =>
        LabLibvirt.DiskXml(target, path, LabDiskFormat.Qcow2, extra: $"<alias name='ua-{target}'/>", driver: "cache='writethrough'").Replace("bus='virtio'", "bus='scsi'", StringComparison.Ordinal);

    private async Task MakeImageAsync(string target, byte[] content)
    {
        await File.WriteAllBytesAsync(PathOf("source"), content);
        await LabDisk.ConvertAsync(PathOf("source"), LabDiskFormat.Raw, PathOf($"{target}.qcow2"), LabDiskFormat.Qcow2);
        disks[target] = PathOf($"{target}.qcow2");
    }

    private async Task<byte[]> ReadImageAsync(string path)
    {
        await LabDisk.ConvertAsync(path, LabDiskFormat.Qcow2, PathOf("content"), LabDiskFormat.Raw, inUse: true);
        return await File.ReadAllBytesAsync(PathOf("content"));
    }
}

namespace VirtBackup.Testing.Lab;

/// <summary>
/// A libvirtd of its own, without privileges, with all of its folders in a directory of its own: the machine's libvirt is
/// neither used nor changed. Root runs it as nobody. Disposal kills it and its machines and removes the directory. One
/// caller at a time.
/// </summary>
public sealed class LabLibvirt : IAsyncDisposable
{
    private const string Nobody = "65534";
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(30);
    private readonly LabDirectory directory = new();
    private readonly List<LabDomain> domains = [];
    private BackgroundProc? daemon;

    private LabLibvirt(LabGuest guest)
    {
        Kernel = File("vmlinuz");
        Initrd = File("initrd.gz");
        System.IO.File.Copy(guest.Kernel, Kernel);
        System.IO.File.Copy(guest.Initrd, Initrd);
        Directory.CreateDirectory(File("c/libvirt"));
        foreach (var name in new[] { "r", "h", "k" }) Directory.CreateDirectory(File(name));
        System.IO.File.WriteAllText(File("libvirtd.conf"), $"auth_unix_rw = \"none\"\nlog_outputs = \"3:file:{File("libvirtd.log")}\"\n");
        System.IO.File.WriteAllText(File("c/libvirt/qemu.conf"), "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n");
    }

    /// <summary>What to connect to.</summary>
    public string Uri => $"qemu+unix:///session?socket={Socket}";

    public string Folder => directory.Path;

    public int Pid => (daemon ?? throw new InvalidOperationException("libvirtd is not running.")).Pid;

    /// <summary>The guest's, readable by the daemon.</summary>
    public string Kernel { get; }

    /// <inheritdoc cref="Kernel"/>
    public string Initrd { get; }

    private string Socket => File("r/libvirt/libvirt-sock");

    private static bool IsRoot => Environment.UserName == "root";

    public static async Task<LabLibvirt> StartAsync()
    {
        var libvirt = new LabLibvirt(await LabGuest.GetAsync());
        try
        {
            await libvirt.GiveAsync(libvirt.Folder);
            await libvirt.StartDaemonAsync();
            return libvirt;
        }
        catch
        {
            await libvirt.DisposeAsync();
            throw;
        }
    }

    public string File(string name) => directory.File(name);

    /// <summary>Makes a file or folder the daemon's own.</summary>
    public async Task GiveAsync(string path)
    {
        if (IsRoot) await Proc.CheckAsync("chown", ["-R", $"{Nobody}:{Nobody}", path]);
    }

    /// <summary>Starts the daemon, after it was killed too, and waits until it answers.</summary>
    public async Task StartDaemonAsync()
    {
        var environment = new Dictionary<string, string?>
        {
            ["XDG_RUNTIME_DIR"] = File("r"), ["XDG_CONFIG_HOME"] = File("c"), ["XDG_CACHE_HOME"] = File("k"), ["XDG_DATA_HOME"] = File("h"), ["HOME"] = File("h"),
        };
        string[] command = ["libvirtd", "-f", File("libvirtd.conf")];
        if (IsRoot) command = ["setpriv", $"--reuid={Nobody}", $"--regid={Nobody}", "--clear-groups", .. command];
        daemon = BackgroundProc.Start(command[0], command[1..], Folder, environment);
        using var limit = new CancellationTokenSource(StartLimit);
        while ((await Proc.RunAsync("virsh", ["-q", "-c", Uri, "list"])).ExitCode != 0)
        {
            if (daemon.HasExited || limit.IsCancellationRequested) throw new LabException($"libvirtd does not answer at {Socket}.\n{daemon.Stderr}");
            await Task.Delay(50);
        }
    }

    /// <summary>SIGKILL to the daemon alone; its machines run on.</summary>
    public async Task KillDaemonAsync()
    {
        await daemon!.KillAsync();
        await daemon.DisposeAsync();
        System.IO.File.Delete(File("r/libvirt/libvirtd.pid"));
    }

    /// <summary>Runs a command of <c>virsh</c>, which must succeed.</summary>
    public Task<string> VirshAsync(params string[] arguments) => Proc.CheckAsync("virsh", ["-q", "-c", Uri, .. arguments]);

    /// <summary>Runs a command of <c>virsh</c>, whatever its exit code.</summary>
    public Task<ProcResult> TryVirshAsync(params string[] arguments) => Proc.RunAsync("virsh", ["-q", "-c", Uri, .. arguments]);

    /// <summary>Defines a machine of the lab guest's two disks, root as vda and data as vdb, and further ones.</summary>
    /// <param name="extraDisks">Further disk elements.</param>
    /// <param name="agentLog"><see cref="LabDomain.AgentLog"/>.</param>
    public async Task<LabDomain> DefineAsync(string name, LabDiskFormat dataFormat = LabDiskFormat.Qcow2, string extraDisks = "", string extraDevices = "", string? agentLog = null)
    {
        var guest = await LabGuest.GetAsync();
        var folder = Directory.CreateDirectory(File(name)).FullName;
        var root = Path.Combine(folder, "root.qcow2");
        var data = Path.Combine(folder, $"data.{LabDisk.NameOf(dataFormat)}");
        System.IO.File.Copy(guest.RootDisk, root);
        if (dataFormat == LabDiskFormat.Qcow2) System.IO.File.Copy(guest.DataDisk, data);
        else await LabDisk.ConvertAsync(guest.DataDisk, LabDiskFormat.Qcow2, data, dataFormat);
        await GiveAsync(folder);
        var domain = new LabDomain(this, name, Guid.NewGuid()) { AgentLog = agentLog };
        domains.Add(domain);
        var disks = DiskXml("vda", root, LabDiskFormat.Qcow2) + DiskXml("vdb", data, dataFormat) + extraDisks;
        await domain.DefineAsync(domain.Xml(disks, extraDevices));
        return domain;
    }

    /// <summary>A disk element on virtio.</summary>
    public static string DiskXml(string target, string path, LabDiskFormat format, string type = "file", string extra = "", string driver = "") =>
        $"<disk type='{type}' device='disk'><driver name='qemu' type='{LabDisk.NameOf(format)}' {driver}/><source {(type == "block" ? "dev" : "file")}='{path}'/><target dev='{target}' bus='virtio'/>{extra}</disk>\n";

    public async ValueTask DisposeAsync()
    {
        if (daemon is not null) await daemon.DisposeAsync();
        foreach (var pid in Directory.Exists(File("r/libvirt/qemu/run")) ? Directory.GetFiles(File("r/libvirt/qemu/run"), "*.pid") : [])
        {
            await Proc.RunAsync("kill", ["-KILL", System.IO.File.ReadAllText(pid).Trim()]);
        }
        for (var i = 0; ; i++)
        {
            try
            {
                directory.Dispose();
                return;
            }
            catch (IOException) when (i < 50)
            {
                // A process that is just ending still writes there.
                await Task.Delay(100);
            }
        }
    }
}

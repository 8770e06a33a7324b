namespace VirtBackup.Testing.Lab;

/// <summary>
/// A libvirtd of its own, with all of its folders in a directory of its own: the machine's libvirt is neither used nor changed.
/// A session's has no privileges, and root runs it as nobody; a system's runs as root, in a mount namespace where its directory
/// covers the machine's, and its machines as the user that Debian's package makes for them. Disposal kills it and its machines and removes the directory. One caller
/// at a time.
/// </summary>
public sealed class LabLibvirt : IAsyncDisposable
{
    private const string Nobody = "65534";
    private const string QemuUser = "libvirt-qemu";
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(90);
    private readonly LabDirectory directory = new();
    private readonly List<LabDomain> domains = [];
    private readonly bool isSystem;
    private readonly LibvirtCapabilities capabilities;
    private BackgroundProc? daemon;

    private LabLibvirt(LabGuest guest, bool isSystem)
    {
        this.isSystem = isSystem;
        Kernel = File("vmlinux");
        PackedKernel = File("vmlinuz");
        Initrd = File("initrd.gz");
        System.IO.File.Copy(guest.Kernel, Kernel);
        System.IO.File.Copy(guest.PackedKernel, PackedKernel);
        System.IO.File.Copy(guest.Initrd, Initrd);
        Directory.CreateDirectory(File("c/libvirt"));
        foreach (var name in new[] { "r", "h", "k" }) Directory.CreateDirectory(File(name));
        capabilities = new LibvirtCapabilities(guest, File(isSystem ? "s/cache/libvirt/qemu/capabilities" : "k/libvirt/qemu/cache/capabilities"), isSystem ? "system" : "session");
        if (isSystem) foreach (var made in Covered.Values.Where(path => path.Contains('/', StringComparison.Ordinal)).Append("r/libvirt")) Directory.CreateDirectory(File(made));
        capabilities.Lend();
        var sockets = isSystem ? $"unix_sock_dir = \"{File("r/libvirt")}\"\n" : "";
        var user = isSystem ? $"user = \"{QemuUser}\"\ngroup = \"{QemuUser}\"\nnamespaces = []\ncgroup_controllers = []\n" : "";
        if (isSystem)
        {
            // libvirt asks for its default user before it reads its configuration, and the package that makes it is not needed otherwise.
            var line = $"{QemuUser}:x:{QemuUid}:";
            System.IO.File.WriteAllText(File("passwd"), $"root:x:0:0::/:/bin/sh\n{line}{QemuUid}::/:/bin/false\n");
            System.IO.File.WriteAllText(File("group"), $"root:x:0:\n{line}\n");
        }
        System.IO.File.WriteAllText(File("libvirtd.conf"), $"auth_unix_rw = \"none\"\nlog_outputs = \"3:file:{File("libvirtd.log")}\"\n{sockets}");
        System.IO.File.WriteAllText(File("c/libvirt/qemu.conf"), $"stdio_handler = \"file\"\nsecurity_driver = \"none\"\n{user}");
    }

    /// <summary>What of the machine a system's daemon finds covered, and by what of its own.</summary>
    private static Dictionary<string, string> Covered { get; } = new()
    {
        ["/etc/passwd"] = "passwd", ["/etc/group"] = "group", ["/etc/libvirt"] = "c/libvirt", ["/run"] = "s/run", ["/var/lib"] = "s/lib", ["/var/cache"] = "s/cache", ["/var/log"] = "s/log",
    };

    /// <summary>Whose the machines of a system's daemon are.</summary>
    public const int QemuUid = 64055;

    /// <summary>What to connect to.</summary>
    public string Uri => $"qemu+unix:///{(isSystem ? "system" : "session")}?socket={Socket}";

    /// <summary>Where the pid files of its machines are.</summary>
    public string RunFolder => File(isSystem ? "s/run/libvirt/qemu" : "r/libvirt/qemu/run");

    public string Folder => directory.Path;

    public int Pid => (daemon ?? throw new InvalidOperationException("libvirtd is not running.")).Pid;

    /// <summary>The guest's, readable by the daemon.</summary>
    public string Kernel { get; }

    /// <inheritdoc cref="LabGuest.PackedKernel"/>
    public string PackedKernel { get; }

    /// <inheritdoc cref="Kernel"/>
    public string Initrd { get; }

    private string Socket => File("r/libvirt/libvirt-sock");

    private static bool IsRoot => Environment.UserName == "root";

    public static Task<LabLibvirt> StartAsync() => StartAsync(isSystem: false);

    /// <summary>A system's daemon. Takes root.</summary>
    public static Task<LabLibvirt> StartSystemAsync() => StartAsync(isSystem: true);

    private static async Task<LabLibvirt> StartAsync(bool isSystem)
    {
        var libvirt = new LabLibvirt(await LabGuest.GetAsync(), isSystem);
        try
        {
            if (isSystem) await Proc.CheckAsync("chmod", ["777", libvirt.Folder]); // QEMU's user makes files there
            else await libvirt.GiveAsync(libvirt.Folder);
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
            // The caller's own may be closed to the daemon's user.
            ["TMPDIR"] = File("k"),
        };
        string[] command = ["libvirtd", "-f", File("libvirtd.conf")];
        if (isSystem) command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", CoverScript(), "libvirtd", .. command];
        else if (IsRoot) command = ["setpriv", $"--reuid={Nobody}", $"--regid={Nobody}", "--clear-groups", .. command];
        daemon = BackgroundProc.Start(command[0], command[1..], Folder, environment);
        using var limit = new CancellationTokenSource(StartLimit);
        while ((await Proc.RunAsync("virsh", ["-q", "-c", Uri, "list"])).ExitCode != 0)
        {
            if (daemon.HasExited || limit.IsCancellationRequested) throw new LabException($"libvirtd does not answer at {Socket}.\n{daemon.Stderr}");
            await Task.Delay(150);
        }
    }

    // A KVM that is there but runs no guest (a host that is itself a guest) would let libvirt's look at QEMU hang for minutes.
    private string CoverScript() =>
        string.Concat(Covered.Select(covered => $"mount --bind {File(covered.Value)} {covered.Key} && ")) + "{ [ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm; } && exec \"$@\"";

    /// <summary>SIGKILL to the daemon alone; its machines run on.</summary>
    public async Task KillDaemonAsync()
    {
        await daemon!.KillAsync();
        await daemon.DisposeAsync();
        System.IO.File.Delete(isSystem ? File("s/run/libvirtd.pid") : File("r/libvirt/libvirtd.pid"));
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
        capabilities.Keep();
        foreach (var pid in Directory.Exists(RunFolder) ? Directory.GetFiles(RunFolder, "*.pid") : [])
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

namespace VirtBackup.Testing.Lab;

/// <summary>The small Linux guest of the lab, built by <c>deploy/lab/build-guest.sh</c>. Its files are shared: copy, never write.</summary>
public sealed class LabGuest
{
    private static readonly Lock Gate = new();
    private static Task<LabGuest>? built;

    private LabGuest(string directory) => Directory = directory;

    public string Directory { get; }

    /// <summary>Unpacked: it starts faster, but with a TPM it does not reach its devices.</summary>
    public string Kernel => Path.Combine(Directory, "vmlinux");

    /// <summary>As distributions ship it.</summary>
    public string PackedKernel => Path.Combine(Directory, "vmlinuz");

    public string Initrd => Path.Combine(Directory, "initrd.gz");

    /// <summary>qcow2, 64 MiB, ext4 labelled vmroot.</summary>
    public string RootDisk => Path.Combine(Directory, "root.qcow2");

    /// <summary>qcow2, 96 MiB, an empty ext4 labelled vmdata that the guest mounts at /data.</summary>
    public string DataDisk => Path.Combine(Directory, "data.qcow2");

    /// <summary>The directory of the sources: the nearest one above the running program that holds the solution.</summary>
    public static string RepositoryRoot
    {
        get
        {
            for (var d = new DirectoryInfo(AppContext.BaseDirectory); d is not null; d = d.Parent)
            {
                if (File.Exists(Path.Combine(d.FullName, "VirtBackup.sln"))) return d.FullName;
            }
            throw new LabException($"No VirtBackup.sln is above {AppContext.BaseDirectory}; run the tests from the source tree.");
        }
    }

    /// <summary>The guest, built first when that has not been done; one build per process, shared by everybody.</summary>
    public static Task<LabGuest> GetAsync(CancellationToken cancellationToken = default)
    {
        lock (Gate)
        {
            if (built is null || built.IsFaulted) built = BuildAsync();
            return built.WaitAsync(cancellationToken);
        }
    }

    /// <summary>
    /// A command line for the guest: exit code 9 unless a write to /data comes through within so many tenths of a second. What waits for a
    /// frozen file system cannot be ended, so it is not waited for.
    /// </summary>
    public static string WriteWithin(int tenths) =>
        "rm -f /run/probe; (dd if=/dev/zero of=/data/probe bs=4k count=1 conv=fsync 2>/dev/null && sync && : > /run/probe) </dev/null >/dev/null 2>&1 & " +
        $"n=0; while [ ! -e /run/probe ]; do n=$((n + 1)); [ $n -lt {tenths} ] || exit 9; sleep 0.1; done";

    private static async Task<LabGuest> BuildAsync()
    {
        var script = Path.Combine(RepositoryRoot, "deploy", "lab", "build-guest.sh");
        var output = await Proc.CheckAsync("bash", [script], TimeSpan.FromMinutes(10));
        return new LabGuest(output.TrimEnd('\n').Split('\n')[^1]);
    }
}

using System.Globalization;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// The folder of one capture in the fleece folder, owned by QEMU's user: scratch images, the NBD socket, and the marks of what
/// was done to the guest, by which a later run knows what a killed one left undone.
/// </summary>
internal sealed class ScratchFolder(string path)
{
    private const string SocketName = "nbd.sock";
    private const int SocketPathMax = 107;
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromSeconds(30);

    public string Path => path;

    public string Socket => System.IO.Path.Combine(path, SocketName);

    public FreezeMarks Marks { get; } = new(path);

    public string ScratchOf(string target) => System.IO.Path.Combine(path, $"{target}.qcow2");

    /// <summary>Where the folder of a capture is.</summary>
    public static string PathOf(LibvirtOptions options, Id16 machine, Id16 point) => System.IO.Path.Combine(options.FleeceFolder, CaptureNames.Folder(machine, point));

    public static async Task<ScratchFolder> CreateAsync(
        LibvirtOptions options, Id16 machine, Id16 point, (int User, int Group)? owner, ProcessRunner processes, CancellationToken cancellationToken)
    {
        if (OperatingSystem.IsWindows())
        {
            throw new FaultException(FaultReason.Unsupported, "Machines of libvirt are captured on Linux only.");
        }
        var folder = new ScratchFolder(PathOf(options, machine, point));
        if (folder.Socket.Length > SocketPathMax)
        {
            throw new FaultException(FaultReason.InvalidArgument,
                $"The fleece folder {options.FleeceFolder} has too long a path for a socket: choose one of at most {SocketPathMax - folder.Socket.Length + options.FleeceFolder.Length} characters.");
        }
        try
        {
            if (!Directory.Exists(options.FleeceFolder))
            {
                Directory.CreateDirectory(options.FleeceFolder);
                File.SetUnixFileMode(options.FleeceFolder, Traversable); // whatever the agent's umask is
            }
            RequireTraversable(options.FleeceFolder, owner);
            Directory.CreateDirectory(folder.Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            if (owner is { } other)
            {
                await processes.RequireAsync("chown", [string.Create(CultureInfo.InvariantCulture, $"{other.User}:{other.Group}"), folder.Path], ToolTimeout, cancellationToken);
            }
            return folder;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            folder.TryDelete();
            throw new FaultException(FaultReason.FailedPrecondition, $"The fleece folder {options.FleeceFolder} cannot be used: {failure.Message}", failure);
        }
        catch
        {
            folder.TryDelete();
            throw;
        }
    }

    public static IReadOnlyList<ScratchFolder> FindAll(string fleeceFolder, Id16 machine) => Find(fleeceFolder, CaptureNames.FolderPattern(machine));

    /// <summary>Makes the empty scratch images, which libvirt would make otherwise, one by one, while the guest stands still.</summary>
    public async Task MakeImagesAsync(
        LibvirtOptions options, IEnumerable<LibvirtDisk> disks, (int User, int Group)? owner, ProcessRunner processes, CancellationToken cancellationToken)
    {
        await Task.WhenAll(disks.Select(disk => processes.RequireAsync(options.QemuImg,
            ["create", "-q", "-f", "qcow2", ScratchOf(disk.Target), disk.LengthBytes.ToString(CultureInfo.InvariantCulture)], ToolTimeout, cancellationToken)));
        if (owner is { } other)
        {
            await processes.RequireAsync("chown", ["-R", string.Create(CultureInfo.InvariantCulture, $"{other.User}:{other.Group}"), path], ToolTimeout, cancellationToken);
        }
    }

    /// <summary>The machines that have a folder with the mark of a frozen guest, or any folder at all.</summary>
    public static IReadOnlyList<Id16> FindMachines(string fleeceFolder) =>
        [.. Find(fleeceFolder, "virtbackup-*").Select(folder => System.IO.Path.GetFileName(folder.Path).Split('-'))
            .Select(parts => parts.Length == 3 && Id16.TryParse(parts[1], out var id) ? id : Id16.Empty).Where(id => !id.IsEmpty).Distinct()];

    public void Delete()
    {
        if (Directory.Exists(path))
        {
            Directory.Delete(path, recursive: true);
        }
    }

    public void TryDelete()
    {
        try
        {
            Delete();
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // Left to the next run.
        }
    }

    private static UnixFileMode Traversable =>
        UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute;

    private static IReadOnlyList<ScratchFolder> Find(string fleeceFolder, string pattern) =>
        Directory.Exists(fleeceFolder) ? [.. Directory.GetDirectories(fleeceFolder, pattern).Select(found => new ScratchFolder(found))] : [];

    private static void RequireTraversable(string fleeceFolder, (int User, int Group)? owner)
    {
        if (owner is null or { User: 0 })
        {
            return;
        }
        for (var folder = fleeceFolder; folder is not null; folder = System.IO.Path.GetDirectoryName(folder))
        {
            if (!OperatingSystem.IsWindows() && (File.GetUnixFileMode(folder) & UnixFileMode.OtherExecute) == 0)
            {
                throw new FaultException(FaultReason.FailedPrecondition,
                    $"The machine's QEMU runs as user {owner.Value.User}, who may not be able to enter {folder}. Allow it (chmod o+x), or name another fleece_folder under 'libvirt' in agent.yaml.");
            }
        }
    }
}

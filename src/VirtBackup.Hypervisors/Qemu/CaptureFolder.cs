using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// The folder of one capture in the fleece folder, private to QEMU's user: fleece images, the NBD socket, and marks that
/// tell a later run what a killed one left undone.
/// </summary>
internal static class CaptureFolder
{
    public const string SocketName = "nbd.sock";
    private const int SocketPathMax = 107;
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromSeconds(60);

    /// <summary>Makes the folder and an empty fleece image for each length.</summary>
    /// <param name="owner">QEMU's process: when it runs as another user, that user becomes the owner.</param>
    public static async Task<string> CreateAsync(
        QemuOptions options, Id16 machine, Id16 point, IReadOnlyList<long> lengths, PeerProcess owner, ProcessRunner processes, CancellationToken cancellationToken)
    {
        if (OperatingSystem.IsWindows())
        {
            throw new FaultException(FaultReason.Unsupported, "QEMU machines are captured on Linux only.");
        }
        var folder = Path.Combine(options.FleeceFolder, CaptureNames.Folder(machine, point));
        if (Path.Combine(folder, SocketName).Length > SocketPathMax)
        {
            throw new FaultException(FaultReason.InvalidArgument,
                $"The fleece folder {options.FleeceFolder} has too long a path for a socket: choose one of at most {SocketPathMax - folder.Length + options.FleeceFolder.Length - SocketName.Length - 1} characters.");
        }
        try
        {
            Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            for (var disk = 0; disk < lengths.Count; disk++)
            {
                await processes.RequireAsync(options.QemuImg,
                    ["create", "-q", "-f", "qcow2", Image(folder, disk), lengths[disk].ToString(System.Globalization.CultureInfo.InvariantCulture)],
                    ToolTimeout, cancellationToken);
            }
            if (owner.UserId != await OwnUserIdAsync(cancellationToken))
            {
                await processes.RequireAsync("chown", ["-R", $"{owner.UserId}:{owner.GroupId}", folder], ToolTimeout, cancellationToken);
            }
            return folder;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            Delete(folder);
            throw new FaultException(FaultReason.FailedPrecondition, $"The fleece folder {options.FleeceFolder} cannot be used: {failure.Message}", failure);
        }
        catch
        {
            Delete(folder);
            throw;
        }
    }

    public static string Image(string folder, int disk) => Path.Combine(folder, $"fleece-{disk}.qcow2");

    public static void Delete(string folder)
    {
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<int> OwnUserIdAsync(CancellationToken cancellationToken)
    {
        await foreach (var line in File.ReadLinesAsync("/proc/self/status", cancellationToken))
        {
            var fields = line.Split('\t');
            if (fields is ["Uid:", _, var effective, ..] && int.TryParse(effective, out var id))
            {
                return id;
            }
        }
        return -1;
    }
}

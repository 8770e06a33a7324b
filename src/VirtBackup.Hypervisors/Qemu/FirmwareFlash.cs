using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>The firmware's variables, which QEMU keeps in a writable flash file (<c>if=pflash</c>).</summary>
internal static class FirmwareFlash
{
    public const string StoredReason = "it is the firmware's flash memory, which is stored with the configuration";

    public static string NotStoredReason { get; } = $"it is the firmware's flash memory, and no raw file of at most {MachineContent.BytesMax >> 20} MiB";

    /// <summary>Whether the content of a flash device can be stored.</summary>
    public static bool CanStore(string format, long lengthBytes) => format == "raw" && lengthBytes is > 0 and <= MachineContent.BytesMax;

    /// <summary>Reads the flash files as they are now: while the machine stands still, QEMU has written them out.</summary>
    /// <param name="folder">QEMU's working directory.</param>
    /// <exception cref="FaultException">A file cannot be read.</exception>
    public static async Task<IReadOnlyList<MachineContent>> ReadAsync(IEnumerable<QemuDisk> disks, string folder)
    {
        var contents = new List<MachineContent>();
        foreach (var disk in disks.Where(disk => disk.IsNvram))
        {
            var path = Path.GetFullPath(disk.File, folder);
            try
            {
                using var file = File.OpenHandle(path, share: FileShare.ReadWrite);
                var bytes = new byte[disk.Summary.LengthBytes];
                for (var at = 0; at < bytes.Length;)
                {
                    var count = await RandomAccess.ReadAsync(file, bytes.AsMemory(at), at);
                    at += count > 0 ? count : throw new IOException($"It ends after {at} of {bytes.Length} bytes.");
                }
                contents.Add(new MachineContent(disk.Summary.Id, disk.Summary.Name, MachineContentKind.Nvram, bytes));
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"The firmware's flash file {path} cannot be read: {failure.Message}", failure);
            }
        }
        return contents;
    }
}

using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// The name of one of our dirty bitmaps: <c>virtbackup-POINT-DISK-LENGTH</c> in hexadecimal. It ties the bitmap to the
/// recovery point it tracks changes since, to the disk (the first 8 digits of its id) and to the disk's length: an image
/// that was attached to another device, cloned or resized must not pass for the one that the point holds.
/// </summary>
internal readonly record struct TrackingName(Id16 Point, string Disk, long LengthBytes)
{
    public const string Prefix = "virtbackup-";
    private const int DiskDigits = 8;

    public static TrackingName For(Id16 point, DiskSummary disk) => new(point, disk.Id.ToString()[..DiskDigits], disk.LengthBytes);

    public bool Fits(DiskSummary disk) => Disk == disk.Id.ToString()[..DiskDigits] && LengthBytes == disk.LengthBytes;

    public static bool TryParse(string text, out TrackingName name)
    {
        name = default;
        var parts = text.Split('-');
        if (parts is not ["virtbackup", var point, { Length: DiskDigits } disk, var length] || !Id16.TryParse(point, out var id)
            || !long.TryParse(length, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var bytes) || bytes < 0)
        {
            return false;
        }
        name = new TrackingName(id, disk, bytes);
        return name.ToString() == text;
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Prefix}{Point}-{Disk}-{LengthBytes:x}");
}

/// <summary>Names of everything that a capture puts into a QEMU process or on the host.</summary>
internal static class CaptureNames
{
    /// <summary>Block nodes and exports of ours. Node names have at most 31 characters.</summary>
    public const string NodePrefix = "vb-";

    public static string Fleece(Id16 point, int disk) => $"{Node(point, disk)}-fl";

    public static string Filter(Id16 point, int disk) => $"{Node(point, disk)}-cbw";

    public static string Limit(Id16 point, int disk) => $"{Node(point, disk)}-lim";

    public static string Snapshot(Id16 point, int disk) => $"{Node(point, disk)}-snap";

    public static string Export(Id16 point, int disk) => Node(point, disk);

    public static bool IsOurs(string node) => node.StartsWith(NodePrefix, StringComparison.Ordinal);

    private static string Node(Id16 point, int disk) => $"{NodePrefix}{point.ToString()[..8]}-{disk}";

    /// <summary>A folder in the fleece folder: fleece images, the NBD socket, marks of what a broken-off run left undone.</summary>
    public static string Folder(Id16 machine, Id16 point) => $"{FolderPattern(machine)[..^1]}{point.ToString()[..8]}";

    public static string FolderPattern(Id16 machine) => $"{TrackingName.Prefix}{machine}-*";

    /// <summary>A disk's id: stable while the device keeps its name in the machine.</summary>
    public static Id16 DiskId(Id16 machine, string device)
    {
        var text = Encoding.UTF8.GetBytes(device);
        var domain = "virtbackup disk\0"u8;
        var input = new byte[domain.Length + Id16.Size + text.Length];
        domain.CopyTo(input);
        machine.Write(input.AsSpan(domain.Length));
        text.CopyTo(input, domain.Length + Id16.Size);
        return Id16.Read(SHA256.HashData(input));
    }
}

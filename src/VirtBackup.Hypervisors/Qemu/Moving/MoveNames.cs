using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>Names of what a move puts into a QEMU process. They stay there, so that they do not begin as a capture's do, which are removed.</summary>
internal static class MoveNames
{
    private const string Prefix = "vbm-";
    private const string FolderKind = "move";

    /// <summary>The mark folder's file that names the journal.</summary>
    public const string JournalMark = "moving";

    /// <summary>Of the copying, and of the new image's node.</summary>
    public static string Job(string tag, int disk) => $"{Prefix}{tag}-{disk}";

    /// <summary>A folder in the fleece folder, found as those of captures are, for the marks of a guest that stands still.</summary>
    public static string Folder(Id16 machine, string tag) => $"{CaptureNames.FolderPattern(machine)[..^1]}{FolderKind}{tag}";

    /// <summary>Whether a folder of the fleece folder is a move's; in a capture's name, digits follow the machine's id.</summary>
    public static bool IsFolder(string name) => name.StartsWith(TrackingName.Prefix, StringComparison.Ordinal) && name.Contains($"-{FolderKind}", StringComparison.Ordinal);
}

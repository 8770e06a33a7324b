using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Where the record of how a restored machine is started lies, for people and for the driver.</summary>
internal sealed record LaunchFiles(string Script, string Record, string Log)
{
    /// <summary>In the folder of a new machine; otherwise beside the first image, under the machine's name.</summary>
    public static LaunchFiles For(RestoreRequest request, IReadOnlyList<ImageReplacement> images)
    {
        var folder = request.Placement == RestorePlacement.NewFolder || images.Count == 0 ? request.Folder : Path.GetDirectoryName(images[0].NewFile)!;
        var prefix = request.Placement == RestorePlacement.NewFolder ? "" : new ImageFileNames().Add(request.Name) + ".";
        return new LaunchFiles(Path.Combine(folder, $"{prefix}launch.sh"), Path.Combine(folder, $"{prefix}launch.json"), Path.Combine(folder, $"{prefix}qemu.log"));
    }
}

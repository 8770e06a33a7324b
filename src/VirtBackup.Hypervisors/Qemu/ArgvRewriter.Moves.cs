namespace VirtBackup.Hypervisors.Qemu;

internal sealed partial class ArgvRewriter
{
    /// <summary>The arguments without what was about that one start: a state to wait for or to load, beginning stopped, going into the background.</summary>
    public static IReadOnlyList<string> ForAnotherStart(IReadOnlyList<string> arguments) =>
        Argv.Format(Argv.Parse(arguments).Where(static option => !Dropped.Contains(option.Name)));

    /// <summary>Gives only the images their new places; all else stays as it is.</summary>
    /// <returns>The arguments, and the images that they name in no form that can be adapted.</returns>
    public (IReadOnlyList<string> Arguments, IReadOnlyList<ImageReplacement> Unplaced) MoveImages()
    {
        var options = Argv.Parse(document.Arguments).Select(option => option.Name is "drive" or "blockdev" || FileOptions.Contains(option.Name) ? Adapt(option) : option).ToList();
        return (Argv.Format([.. options.Select(SetFormatAbove)]), [.. images.Where(image => !placed.Contains(image))]);
    }
}

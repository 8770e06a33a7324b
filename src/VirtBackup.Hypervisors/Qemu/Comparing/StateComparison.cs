using VirtBackup.Hypervisors.State;

namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>
/// Whether this host can go on with a running state. A guest that boots adapts itself to much; one that goes on finds what it knew,
/// or fails in ways that nobody sees: what cannot be judged to be the same blocks.
/// </summary>
internal static class StateComparison
{
    private const string Item = "state";

    /// <param name="others">What was found about the machine without its state.</param>
    public static IReadOnlyList<RestoreFinding> Compare(Comparison comparison, IReadOnlyList<RestoreFinding> others)
    {
        if (comparison.Request.State is not { } state)
        {
            return [];
        }
        List<string?> obstacles =
        [
            comparison.Request.Start ? null : "The machine is not to be started, and a running state cannot wait.",
            comparison.Request.DisksOnly ? "Single disks are restored, and a running state is a whole machine's." : null,
            comparison.Request.KeepIdentity ? null : "A machine that goes on keeps its UUID and its MAC addresses: ask for the same identity.",
            comparison.Request.Disks.Any(disk => disk.Bus is not null) ? "A disk cannot change its bus under a running guest." : null,
            .. comparison.Program is { } program ? JudgeProgram(comparison, program.Executable, program.Abilities) : ["There is no program here to run it."],
            .. others.Where(finding => finding.Item == "cpu" && finding.Severity is not (FindingSeverity.Fits or FindingSeverity.Blocks)).Select(finding => finding.Message),
            HostMemory.Judge(comparison.Facts.MemoryBytes),
        ];
        var found = obstacles.OfType<string>().Select(obstacle => new RestoreFinding(Item, FindingSeverity.Blocks,
            $"The machine cannot go on from its running state here. {obstacle} Choose another host, or restore without the state.")).ToList();
        return found.Count > 0 ? found : [new RestoreFinding(Item, FindingSeverity.Fits, $"The machine goes on from its running state, {state.Memory.LengthBytes >> 20} MiB of memory; its clock and its connections are those of the recovery point.")];
    }

    private static IEnumerable<string?> JudgeProgram(Comparison comparison, string executable, ProgramAbilities abilities)
    {
        var (facts, taken) = (comparison.Facts, AcceleratorChoice.Of(comparison.Options).Taken);
        yield return facts.MachineType is not { } type ? "The recovery point does not hold the exact machine type."
            : abilities.MachineTypes.ContainsKey(type) ? null : $"{executable} does not have the machine type {type}.";
        yield return facts.ProgramVersion is not { } was ? "The recovery point does not hold the version of QEMU that ran it."
            : abilities.Version >= was ? null : $"{executable} has version {abilities.Version}, and the state is of {was}: an older QEMU does not read what a newer one wrote.";
        yield return facts.Accelerator is not { } accelerator ? "The recovery point does not hold how its processor was run."
            : taken == accelerator ? null : $"It ran with {accelerator}, and would run with {taken ?? "nothing"} here.";
    }

    /// <summary>The arguments with the machine type as it was resolved at the cut: an alias means another one in another version.</summary>
    public static IReadOnlyList<string> Pin(IReadOnlyList<string> arguments, string type)
    {
        var options = Argv.Parse(arguments).ToList();
        var at = options.FindLastIndex(option => option.Name is "machine" or "M");
        if (at < 0)
        {
            options.Add(new ArgvOption("machine", type));
            return Argv.Format(options);
        }
        var text = OptionText.Parse(options[at].Value ?? "");
        if (text["type"] is not null)
        {
            text["type"] = type;
        }
        else
        {
            text.SetHead(type);
        }
        options[at] = options[at] with { Value = text.ToString() };
        return Argv.Format(options);
    }
}

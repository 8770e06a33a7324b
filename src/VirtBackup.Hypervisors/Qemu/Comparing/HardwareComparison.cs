namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>What a stored machine and this host are compared by.</summary>
/// <param name="Options">Of the stored command line.</param>
/// <param name="Program">The QEMU that would run it, and what it has; null: there is none here.</param>
internal sealed record Comparison(
    RestoreRequest Request, ArgvDocument Document, IReadOnlyList<ArgvOption> Options, StoredFacts Facts, (string Executable, ProgramAbilities Abilities)? Program)
{
    public string FullPath(string file) => Path.GetFullPath(file.StartsWith("file:", StringComparison.Ordinal) ? file[5..] : file, Document.WorkingDirectory);

    public string? MachineType =>
        Options.LastOrDefault(option => option.Name is "machine" or "M").Value is { } value && OptionText.Parse(value) is var text ? text["type"] ?? text.Head : null;
}

/// <summary>Processor, machine type and accelerator.</summary>
internal sealed class HardwareComparison(ProgramSurvey survey)
{
    private const int FeaturesNamed = 12;

    /// <summary>Models that are whatever the host has.</summary>
    private static readonly HashSet<string> HostModels = ["host", "max"];

    public async Task<IReadOnlyList<RestoreFinding>> CompareAsync(Comparison comparison, CancellationToken cancellationToken)
    {
        if (comparison.Program is not { } program)
        {
            const string why = "cannot be judged without the program that would run the machine.";
            return [Found("machine type", FindingSeverity.Unknown, $"The machine type {why}"), Found("cpu", FindingSeverity.Unknown, $"The processor {why}")];
        }
        var accelerator = AcceleratorChoice.Of(comparison.Options);
        return
        [
            CompareType(comparison, program.Executable, program.Abilities), CompareAccelerator(accelerator),
            await CompareCpuAsync(comparison, program.Executable, program.Abilities, accelerator, cancellationToken),
        ];
    }

    private static RestoreFinding CompareType(Comparison comparison, string executable, ProgramAbilities abilities)
    {
        const string item = "machine type";
        if (comparison.MachineType is not { } type)
        {
            return comparison.Facts.MachineType is { } stored && !abilities.MachineTypes.ContainsKey(stored)
                ? Found(item, FindingSeverity.Adapts, $"The command line names no machine type; it was {stored}, which {executable} does not have: the guest finds the hardware of another one.")
                : Found(item, FindingSeverity.Fits, $"The command line names no machine type; {executable} takes its default.");
        }
        if (!abilities.MachineTypes.TryGetValue(type, out var name))
        {
            return Found(item, FindingSeverity.Blocks, $"{executable} does not have the machine type {type}. Install a QEMU that has it, or restore on another host.");
        }
        return comparison.Facts.MachineType is { } was && was != name
            ? Found(item, FindingSeverity.Adapts, $"{type} is {name} here and was {was}: the guest finds the hardware of another version. Start it with -machine {was} if it depends on the old one.")
            : Found(item, FindingSeverity.Fits, $"{executable} has the machine type {type}{(name == type ? "" : $" ({name})")}.");
    }

    private static RestoreFinding CompareAccelerator(AcceleratorChoice choice) => choice switch
    {
        { Taken: null } => Found("accelerator", FindingSeverity.Blocks, "The machine wants KVM, and this host has no /dev/kvm. Switch virtualization on in the host's firmware, load the kvm module, or choose another host."),
        { Names.Count: 0 } => Found("accelerator", FindingSeverity.Fits, "The command line names no accelerator; the program takes its default."),
        { Names: ["kvm", _, ..], Taken: not "kvm" } => Found("accelerator", FindingSeverity.Adapts, $"This host has no /dev/kvm: the machine runs with {choice.Taken}, many times slower."),
        // That the device opens does not mean that guests run: only starting one shows it.
        { Taken: "kvm" } => Found("accelerator", FindingSeverity.Fits, "/dev/kvm is there; whether this host runs guests with it shows when one is started."),
        _ => Found("accelerator", FindingSeverity.Fits, $"The machine runs with {choice.Taken}."),
    };

    private async Task<RestoreFinding> CompareCpuAsync(
        Comparison comparison, string executable, ProgramAbilities abilities, AcceleratorChoice accelerator, CancellationToken cancellationToken)
    {
        var choice = CpuChoice.Of(comparison.Options);
        if ((choice.Model ?? comparison.Facts.CpuModel) is not { } model)
        {
            return Found("cpu", FindingSeverity.Unknown, "The command line names no processor, and the recovery point does not hold what it was: the machine gets the machine type's default.");
        }
        if (!abilities.CpuModels.TryGetValue(model, out var unavailable))
        {
            return Found("cpu", FindingSeverity.Blocks, $"{executable} does not know the processor {model}. Install a QEMU that knows it, or restore on another host.");
        }
        if (accelerator.Taken is not { } taken)
        {
            return Found("cpu", FindingSeverity.Unknown, "The processor's features cannot be judged without an accelerator that works here.");
        }
        if (model == "host" && taken != "kvm")
        {
            return Found("cpu", FindingSeverity.Blocks, $"The processor 'host' needs KVM, and the machine would run with {taken}. Restore on a host with KVM.");
        }
        if (comparison.Facts.CpuFeatures is not { } seen)
        {
            return HostModels.Contains(model)
                ? Found("cpu", FindingSeverity.Unknown, $"The processor is '{model}', whatever its host has, and the recovery point does not hold what that was: it was made before this was recorded.")
                : Judge(model, unavailable, choice.Enforced, "the model has");
        }
        if (await survey.ExpandAsync(executable, taken, choice with { Model = model }, cancellationToken) is not { } here)
        {
            return Found("cpu", FindingSeverity.Unknown, $"{executable} does not tell what the processor {model} would have here.");
        }
        return Judge(model, [.. seen.Where(feature => !here.Contains(feature)).Order(StringComparer.Ordinal)], choice.Enforced, "the guest saw");
    }

    private static RestoreFinding Judge(string model, IReadOnlyList<string> missing, bool enforced, string whose)
    {
        if (missing.Count == 0)
        {
            return Found("cpu", FindingSeverity.Fits, $"This host gives the processor {model} every feature that {whose}.");
        }
        var named = string.Join(", ", missing.Take(FeaturesNamed)) + (missing.Count > FeaturesNamed ? $" and {missing.Count - FeaturesNamed} more" : "");
        return enforced
            ? Found("cpu", FindingSeverity.Blocks, $"This host lacks features of the processor {model}: {named}; the command line enforces them. Restore on a host that has them.")
            : Found("cpu", FindingSeverity.Adapts, $"The processor {model} comes without features that {whose}: {named}. Programs that need them fail; choose a host that has them.");
    }

    private static RestoreFinding Found(string item, FindingSeverity severity, string message) => new(item, severity, message);
}

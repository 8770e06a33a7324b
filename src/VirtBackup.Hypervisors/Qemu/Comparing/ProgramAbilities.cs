namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>What a QEMU program of this host has.</summary>
/// <param name="MachineTypes">By name and by alias (<c>q35</c>): the full name.</param>
/// <param name="CpuModels">By name: the features that this host cannot give it.</param>
/// <param name="DeviceModels">Names and aliases, as <c>-device</c> takes them.</param>
internal sealed record ProgramAbilities(
    IReadOnlyDictionary<string, string> MachineTypes, IReadOnlyDictionary<string, IReadOnlyList<string>> CpuModels, IReadOnlySet<string> DeviceModels, Version Version);

/// <summary>A processor as the command line asks for it: <c>-cpu MODEL,+feature,-feature,feature=on</c>.</summary>
/// <param name="Features">Asked for or refused by name; only those that are on or off.</param>
/// <param name="Enforced">QEMU is to refuse a host that lacks a feature, instead of leaving it out.</param>
internal sealed record CpuChoice(string? Model, IReadOnlyDictionary<string, bool> Features, bool Enforced)
{
    public static CpuChoice Of(IReadOnlyList<ArgvOption> options)
    {
        var text = OptionText.Parse(options.LastOrDefault(option => option.Name == "cpu").Value ?? "");
        var features = new Dictionary<string, bool>(StringComparer.Ordinal);
        foreach (var (key, value) in text.Parts.Skip(text.Head is null ? 0 : 1))
        {
            switch (key ?? value)
            {
                case ['+', .. var name]:
                    features[name] = true;
                    break;
                case ['-', .. var name]:
                    features[name] = false;
                    break;
                case { Length: > 0 } name when key is null || value is "on" or "off":
                    features[name] = key is null || value == "on";
                    break;
            }
        }
        var enforced = features.Remove("enforce", out var asked) && asked;
        features.Remove("check");
        return new CpuChoice(text.Head is { Length: > 0 } model ? model : null, features, enforced);
    }
}

/// <summary>How the guest's processor is run.</summary>
/// <param name="Names">In the order in which they are tried; empty: the program's default.</param>
internal sealed record AcceleratorChoice(IReadOnlyList<string> Names)
{
    private const string KvmDevice = "/dev/kvm";

    public static AcceleratorChoice Of(IReadOnlyList<ArgvOption> options)
    {
        var names = new List<string>();
        foreach (var option in options)
        {
            var text = OptionText.Parse(option.Value ?? "");
            switch (option.Name)
            {
                case "enable-kvm":
                    names.Add("kvm");
                    break;
                case "accel" when (text["accel"] ?? text.Head) is { } name:
                    names.Add(name);
                    break;
                case "machine" or "M" when text["accel"] is { } list:
                    names.AddRange(list.Split(':'));
                    break;
            }
        }
        return new AcceleratorChoice([.. names.Distinct()]);
    }

    /// <summary>The one that would be taken on this host; null: none of them can be.</summary>
    public string? Taken => Names.Count == 0 ? "tcg" : Names.FirstOrDefault(name => name != "kvm" || File.Exists(KvmDevice));
}

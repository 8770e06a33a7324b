namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>Firmware, Secure Boot and TPM.</summary>
internal static class FirmwareComparison
{
    private const string TpmEmulator = "swtpm";

    public static IEnumerable<RestoreFinding> Compare(Comparison comparison)
    {
        var firmware = FirmwareChoice.Of(comparison.Options);
        yield return CompareFirmware(comparison, firmware);
        yield return CompareSecureBoot(comparison, firmware);
        yield return CompareTpm(comparison);
    }

    private static RestoreFinding CompareFirmware(Comparison comparison, FirmwareChoice firmware)
    {
        const string item = "firmware";
        if (firmware.Code is not { } code)
        {
            return Found(item, FindingSeverity.Fits, "The machine starts with QEMU's own BIOS.");
        }
        var file = comparison.FullPath(code);
        if (!File.Exists(file) && !IsNamedByProgram(code))
        {
            return Found(item, FindingSeverity.Blocks, $"The firmware {file} does not exist on this host. Install the package that has it (ovmf, edk2), or copy it there.");
        }
        if (comparison.Facts.FirmwareSha256 is not { } was)
        {
            return Found(item, FindingSeverity.Unknown, $"The machine starts with {code}, which is there; whether it is the same build as then is not known, because the recovery point does not hold it.");
        }
        return MachineFacts.TryHash(file) switch
        {
            null => Found(item, FindingSeverity.Unknown, $"The firmware {file} is there, but cannot be read by the agent: whether it is the same build cannot be judged."),
            var now when now == was => Found(item, FindingSeverity.Fits, $"The machine starts with {code}, the same build as then."),
            _ => Found(item, FindingSeverity.Adapts, $"The machine starts with {code}, which is another build than then. Its variables may have to be set anew, and a disk bound to the TPM's measurements asks for its recovery key."),
        };
    }

    private static RestoreFinding CompareSecureBoot(Comparison comparison, FirmwareChoice firmware)
    {
        const string item = "secure boot";
        if (!firmware.IsSecure || firmware.Code is not { } code)
        {
            return Found(item, FindingSeverity.Fits, "The machine's firmware is not one for Secure Boot.");
        }
        if (!File.Exists(comparison.FullPath(code)))
        {
            return Found(item, FindingSeverity.Blocks, $"The Secure Boot firmware {code} does not exist on this host, and the machine would not start without it. Install it (package ovmf).");
        }
        if (comparison.Program is not { } program)
        {
            return Found(item, FindingSeverity.Unknown, "Secure Boot cannot be judged without the program that would run the machine.");
        }
        var type = comparison.MachineType is { } asked ? program.Abilities.MachineTypes.GetValueOrDefault(asked, asked) : "";
        return type.Contains("q35", StringComparison.Ordinal)
            ? Found(item, FindingSeverity.Fits, $"{code} is there, and the machine type {type} can protect its variables.")
            : Found(item, FindingSeverity.Blocks, $"Secure Boot needs a q35 machine, and the command line asks for {(type.Length == 0 ? "the default" : type)}.");
    }

    private static RestoreFinding CompareTpm(Comparison comparison)
    {
        const string item = "tpm";
        var option = comparison.Options.FirstOrDefault(option => option is { Name: "tpmdev", Value: not null });
        if (option.Value is not { } value)
        {
            return Found(item, FindingSeverity.Fits, "The machine has no TPM.");
        }
        var text = OptionText.Parse(value);
        var kind = text["type"] ?? text.Head;
        if (kind == "passthrough")
        {
            var device = text["path"] ?? "/dev/tpm0";
            return Path.Exists(device)
                ? Found(item, FindingSeverity.Adapts, $"The machine uses the TPM of its host: {device} of this one has other keys, and what was sealed to the old one stays closed.")
                : Found(item, FindingSeverity.Blocks, $"The machine uses the TPM of its host, and this one has no {device}. Restore on a host with a TPM.");
        }
        if (kind != "emulator" || SocketOf(comparison, text["chardev"]) is not { } socket)
        {
            return Found(item, FindingSeverity.Unknown, $"The machine's TPM ({value}) is of a kind that cannot be judged.");
        }
        if (Path.Exists(comparison.FullPath(socket)))
        {
            return Found(item, FindingSeverity.Adapts, $"The TPM emulator at {socket} is used as it is: keys that the machine sealed to its own are there only if its state is.");
        }
        return FindProgram(TpmEmulator) is { } emulator
            ? Found(item, FindingSeverity.Blocks, $"The machine has an emulated TPM, and nothing listens at {socket}. Start {emulator} there with the machine's TPM state: {TpmEmulator} socket --tpm2 --tpmstate dir=STATE --ctrl type=unixio,path={socket} --daemon.")
            : Found(item, FindingSeverity.Blocks, $"The machine has an emulated TPM, and {TpmEmulator} is not installed on this host. Install {TpmEmulator}, and start it at {socket} with the machine's TPM state.");
    }

    private static string? SocketOf(Comparison comparison, string? id) => comparison.Options
        .Where(option => option is { Name: "chardev", Value: not null }).Select(option => OptionText.Parse(option.Value!))
        .FirstOrDefault(text => id is not null && text["id"] == id)?["path"];

    // "-bios qboot.rom" is looked for where QEMU has its own files.
    private static bool IsNamedByProgram(string code) =>
        !code.Contains('/', StringComparison.Ordinal) && (File.Exists($"/usr/share/qemu/{code}") || File.Exists($"/usr/share/seabios/{code}"));

    private static string? FindProgram(string name) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries).Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);

    private static RestoreFinding Found(string item, FindingSeverity severity, string message) => new(item, severity, message);
}

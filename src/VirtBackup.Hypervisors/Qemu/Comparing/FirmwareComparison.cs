using VirtBackup.Hypervisors.Tpm;

namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>Firmware, Secure Boot and TPM.</summary>
internal static class FirmwareComparison
{
    public static IEnumerable<RestoreFinding> Compare(Comparison comparison)
    {
        var firmware = FirmwareChoice.Of(comparison.Options);
        yield return CompareFirmware(comparison, firmware);
        yield return CompareSecureBoot(comparison, firmware);
        // Where its state is made anew, its placement is spoken of elsewhere.
        if (comparison.Document.Tpm is null || comparison.Request.Contents.All(content => content.Kind != MachineContentKind.Tpm))
        {
            yield return CompareTpm(comparison);
        }
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
        if (TpmDevice.Find(comparison.Options) is not { } device)
        {
            return Found(item, FindingSeverity.Fits, "The machine has no TPM.");
        }
        if (device.Kind == "passthrough")
        {
            var path = device.Option["path"] ?? "/dev/tpm0";
            return Path.Exists(path)
                ? Found(item, FindingSeverity.Adapts, $"The machine uses the TPM of its host: {path} of this one has other keys, and what was sealed to the old one stays closed.")
                : Found(item, FindingSeverity.Blocks, $"The machine uses the TPM of its host, and this one has no {path}. Restore on a host with a TPM.");
        }
        if (device.Socket is not { } socket)
        {
            return Found(item, FindingSeverity.Unknown, $"The machine's TPM {device.Name} ({device.Kind}) is of a kind that cannot be judged.");
        }
        const string emulator = TpmEmulator.Program;
        if (Path.Exists(comparison.FullPath(socket)))
        {
            return Found(item, FindingSeverity.Adapts, $"The recovery point does not hold the TPM's state. The emulator at {socket} is used as it is: keys that the machine sealed to its own are there only if its state is.");
        }
        return ProgramPath.Find(emulator) is { } program
            ? Found(item, FindingSeverity.Blocks, $"The recovery point does not hold the state of the machine's emulated TPM, and nothing listens at {socket}. Start {program} there with the machine's TPM state: {emulator} socket --tpm2 --tpmstate dir=STATE --ctrl type=unixio,path={socket} --daemon.")
            : Found(item, FindingSeverity.Blocks, $"The machine has an emulated TPM, whose state the recovery point does not hold, and {emulator} is not installed on this host. Install {emulator}, and start it at {socket} with the machine's TPM state.");
    }

    // "-bios qboot.rom" is looked for where QEMU has its own files.
    private static bool IsNamedByProgram(string code) =>
        !code.Contains('/', StringComparison.Ordinal) && (File.Exists($"/usr/share/qemu/{code}") || File.Exists($"/usr/share/seabios/{code}"));

    private static RestoreFinding Found(string item, FindingSeverity severity, string message) => new(item, severity, message);
}

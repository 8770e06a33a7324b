using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Tpm;

/// <summary>Reads and writes command lines of swtpm (swtpm(8)).</summary>
internal static class TpmEmulatorCommand
{
    // What decides how the state is read, and what the guest sees of the TPM. Sockets, logs and descriptors belong to one process.
    private static readonly HashSet<string> Kept = new(StringComparer.Ordinal) { "key", "migration-key", "locality", "seccomp", "profile" };
    private static readonly HashSet<string> Flags = new(StringComparer.Ordinal) { "tpm2", "terminate", "daemon", "vtpm-proxy", "t", "d" };

    /// <summary>The folder that the arguments name; null: they name none, or another kind of place.</summary>
    public static string? StateFolderOf(IReadOnlyList<string> arguments, string workingDirectory)
    {
        if (Parse(arguments).LastOrDefault(option => option.Name == "tpmstate").Value is not { } value)
        {
            return null;
        }
        var text = OptionText.Parse(value);
        const string scheme = "dir://";
        var folder = text["dir"] ?? (text["backend-uri"] is { } uri && uri.StartsWith(scheme, StringComparison.Ordinal) ? uri[scheme.Length..] : null);
        return folder is null ? null : Path.GetFullPath(folder, workingDirectory).TrimEnd('/');
    }

    /// <summary>A command line that serves the state in a folder, ends with its machine, and lets whoever starts it go on.</summary>
    /// <param name="keepsUser">The state stays with the user that the emulator changes to.</param>
    public static IReadOnlyList<string> For(IReadOnlyList<string> stored, string folder, string socket, bool keepsUser)
    {
        List<string> arguments = ["socket"];
        foreach (var (name, value) in Parse(stored))
        {
            if (name == "tpm2")
            {
                arguments.Add("--tpm2");
            }
            else if (value is not null && (Kept.Contains(name) || (keepsUser && name is "runas" or "r")))
            {
                arguments.AddRange([$"--{(name == "r" ? "runas" : name)}", value]);
            }
        }
        arguments.AddRange(["--tpmstate", $"dir={folder},mode=0600", "--ctrl", $"type=unixio,path={socket},mode=0600", "--terminate", "--daemon"]);
        return arguments;
    }

    /// <summary>How the state is encrypted: the file with the key or passphrase, "" when it came over a descriptor; null: it is not.</summary>
    public static string? KeyFileOf(IReadOnlyList<string> arguments)
    {
        if (Parse(arguments).LastOrDefault(option => option.Name == "key").Value is not { } value)
        {
            return null;
        }
        var text = OptionText.Parse(value);
        return text["file"] ?? text["pwdfile"] ?? "";
    }

    private static IEnumerable<(string Name, string? Value)> Parse(IReadOnlyList<string> arguments)
    {
        for (var i = 0; i < arguments.Count; i++)
        {
            if (!arguments[i].StartsWith('-'))
            {
                continue; // the kind of interface: socket, cuse, chardev
            }
            var name = arguments[i].TrimStart('-');
            if (name.IndexOf('=', StringComparison.Ordinal) is var sign and > 0)
            {
                yield return (name[..sign], name[(sign + 1)..]);
            }
            else
            {
                yield return (name, Flags.Contains(name) || i + 1 == arguments.Count ? null : arguments[++i]);
            }
        }
    }
}

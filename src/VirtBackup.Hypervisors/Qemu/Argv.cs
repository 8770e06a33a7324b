namespace VirtBackup.Hypervisors.Qemu;

/// <summary>One command-line option. <paramref name="Name"/> without dashes; "" for a bare argument, which QEMU takes as the first disk.</summary>
internal readonly record struct ArgvOption(string Name, string? Value);

/// <summary>Splits QEMU's arguments into options.</summary>
internal static class Argv
{
    // QEMU qemu-options.hx: the options without a value. All others take one.
    private static readonly HashSet<string> Flags = new(StringComparer.Ordinal)
    {
        "h", "help", "version", "nodefaults", "no-user-config", "daemonize", "S", "s", "snapshot", "nographic", "no-reboot", "no-shutdown",
        "no-acpi", "no-hpet", "no-fd-bootchk", "enable-kvm", "full-screen", "win2k-hack", "only-migratable", "singlestep", "usb", "curses",
        "xen-attach", "xen-domid-restrict", "enable-fips", "preconfig", "nodefconfig", "old-param", "semihosting", "mem-prealloc",
        "alt-grab", "ctrl-grab", "no-quit", "sdl", "no-kvm", "no-kvm-irqchip", "rtc-td-hack", "tdf", "no-frame", "localtime",
    };

    public static IReadOnlyList<ArgvOption> Parse(IReadOnlyList<string> arguments)
    {
        var options = new List<ArgvOption>();
        for (var i = 0; i < arguments.Count; i++)
        {
            var argument = arguments[i];
            if (argument is not ['-', _, ..])
            {
                options.Add(new ArgvOption("", argument));
                continue;
            }
            var name = argument.StartsWith("--", StringComparison.Ordinal) ? argument[2..] : argument[1..];
            options.Add(Flags.Contains(name) || i + 1 == arguments.Count ? new ArgvOption(name, null) : new ArgvOption(name, arguments[++i]));
        }
        return options;
    }

    public static IReadOnlyList<string> Format(IEnumerable<ArgvOption> options) =>
        [.. options.SelectMany(option => option switch
        {
            { Name: "" } => new[] { option.Value! },
            { Value: null } => ["-" + option.Name],
            _ => ["-" + option.Name, option.Value],
        })];
}

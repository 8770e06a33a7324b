namespace VirtBackup.Testing.Lab;

/// <summary>The backup program virtnbdbackup and its other half, on the machines of a private libvirtd. One caller at a time.</summary>
public sealed class Virtnbdbackup(LabLibvirt libvirt)
{
    private const string Prefix = "virtnbdbackup.";

    // It takes any address with a transport for one that needs a password; libvirt's own default needs none.
    private readonly Dictionary<string, string?> environment = new() { ["LIBVIRT_DEFAULT_URI"] = libvirt.Uri };

    /// <param name="level"><c>full</c> and <c>inc</c> make a checkpoint, <c>copy</c> none.</param>
    /// <param name="output">A folder; empty or absent, unless the level is <c>inc</c>.</param>
    /// <param name="more">Further options.</param>
    public async Task BackUpAsync(string machine, string level, string output, TimeSpan limit, params string[] more) =>
        (await Proc.RunAsync("virtnbdbackup", ["-U", "", "-n", "-d", machine, "-l", level, "-o", output, .. more], limit, environment: environment)).EnsureSuccess();

    /// <summary>Restores all disks.</summary>
    /// <param name="input">What <see cref="BackUpAsync"/> made.</param>
    /// <param name="output">An empty folder.</param>
    public async Task RestoreAsync(string input, string output, TimeSpan limit) =>
        (await Proc.RunAsync("virtnbdrestore", ["-U", "", "-n", "-i", input, "-o", output, "-L", libvirt.File("restore.log")], limit, environment: environment)).EnsureSuccess();

    /// <summary>Deletes what its runs leave in a machine, and what another program has left there: it takes no increment beside that.</summary>
    public async Task ForgetAsync(string machine, string othersPrefix)
    {
        var names = (await libvirt.VirshAsync("checkpoint-list", machine, "--name", "--topological")).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        foreach (var name in names.Where(name => name.StartsWith(Prefix, StringComparison.Ordinal) || name.StartsWith(othersPrefix, StringComparison.Ordinal)))
        {
            await libvirt.VirshAsync("checkpoint-delete", machine, name);
        }
    }
}

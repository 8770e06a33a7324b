using System.Xml.Linq;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Tpm;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>The TPM of a domain (libvirt, formatdomain), and where libvirt keeps the state of an emulated one.</summary>
/// <param name="Kind">Of its back end: <c>emulator</c>, <c>passthrough</c>.</param>
/// <param name="Secret">The UUID of libvirt's secret that encrypts the state, or null.</param>
/// <param name="OutlivesMachine">Every libvirt keeps its state when it forgets the machine.</param>
internal sealed record DomainTpm(Id16 Machine, string Kind, string Version, string? Secret, bool OutlivesMachine = false)
{
    public const string Name = "tpm";
    private const string SystemFolder = "/var/lib/libvirt/swtpm";

    /// <summary>Null: the domain has none.</summary>
    public static DomainTpm? Find(Id16 machine, XElement root) => root.Element("devices")?.Element("tpm")?.Element("backend") is { } backend
        ? new DomainTpm(machine, backend.Text("type") ?? "unknown", backend.Text("version") ?? "2.0", backend.Element("encryption")?.Text("secret"), backend.Text("persistent_state") == "yes") : null;

    public bool IsEmulated => Kind == "emulator";

    public Id16 ContentId => DomainDocument.DiskId(Machine, Name);

    /// <summary>What a capture stores of a machine's TPM; null: it has none.</summary>
    public static async Task<TpmMemory?> FindMemoryAsync(LibvirtContext context, LibvirtConnection connection, DomainView view, CaptureRequest request, CancellationToken cancellationToken) =>
        Find(request.Machine, view.Document.Root) is { } tpm ? await tpm.ReadMemoryAsync(context, connection, view.Active, request.Log, cancellationToken) : null;

    /// <summary>What a capture stores of it: of a running machine what its emulator has open, otherwise what libvirt would start it with.</summary>
    private async Task<TpmMemory> ReadMemoryAsync(LibvirtContext context, LibvirtConnection connection, bool active, Action<string> log, CancellationToken cancellationToken)
    {
        if (!IsEmulated)
        {
            return new TpmMemory(ContentId, Name, null, $"it is no emulated TPM but '{Kind}'", log);
        }
        var mark = $"/{Machine.ToUuidString()}/";
        var folder = active ? TpmEmulator.FindByFolder(candidate => candidate.Contains(mark, StringComparison.Ordinal))?.StateFolder : await FindFolderAsync(context, connection, Machine, cancellationToken);
        return new TpmMemory(ContentId, Name, folder, folder is null ? "its emulator and its folder cannot be seen; the agent must run as root or as the machine's user" : null, log);
    }

    /// <summary>Where libvirt looks for the state of a machine of this kind (libvirt, qemu_tpm.c); null: it cannot be told.</summary>
    public async Task<string?> FindFolderAsync(LibvirtContext context, LibvirtConnection connection, Id16 machine, CancellationToken cancellationToken) =>
        await FindBaseAsync(connection.Uri, context.Processes, cancellationToken) is { } folder
            ? Path.Combine(folder, machine.ToUuidString(), Version.StartsWith('1') ? "tpm1.2" : "tpm2") : null;

    private static async Task<string?> FindBaseAsync(string uri, ProcessRunner processes, CancellationToken cancellationToken)
    {
        if (new Uri(uri).AbsolutePath.StartsWith("/system", StringComparison.Ordinal))
        {
            return SystemFolder;
        }
        // A session's files lie where its daemon was told: by its environment.
        var socket = LibvirtUri.SocketOf(uri) ?? Path.Combine(Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR") ?? $"/run/user/{await ReadOwnUserAsync(processes, cancellationToken)}", "libvirt", "libvirt-sock");
        if ((ListeningProcess.Find(socket, "libvirtd") ?? ListeningProcess.Find(socket, "virtqemud")) is not { } daemon)
        {
            return null;
        }
        try
        {
            var environment = System.Text.Encoding.UTF8.GetString(await File.ReadAllBytesAsync($"/proc/{daemon}/environ", cancellationToken)).Split('\0')
                .Select(line => line.Split('=', 2)).Where(pair => pair.Length == 2).GroupBy(pair => pair[0], StringComparer.Ordinal).ToDictionary(group => group.Key, group => group.First()[1], StringComparer.Ordinal);
            var settings = environment.GetValueOrDefault("XDG_CONFIG_HOME") is { Length: > 0 } named ? named
                : environment.GetValueOrDefault("HOME") is { Length: > 0 } home ? Path.Combine(home, ".config") : null;
            return settings is null ? null : Path.Combine(settings, "libvirt", "qemu", "swtpm");
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static async Task<string> ReadOwnUserAsync(ProcessRunner processes, CancellationToken cancellationToken) =>
        (await processes.RequireAsync("id", ["-u"], TimeSpan.FromSeconds(10), cancellationToken)).Trim();
}

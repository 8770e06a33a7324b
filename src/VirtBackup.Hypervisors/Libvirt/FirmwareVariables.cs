using System.Text.Json;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>The file of firmware variables of a restored machine. Without bytes while a restore is only checked.</summary>
internal sealed record RestoredVariables(string Path, ReadOnlyMemory<byte> Bytes);

/// <summary>The firmware's variables (UEFI), which libvirt keeps in the file that the domain's <c>nvram</c> names.</summary>
internal static partial class FirmwareVariables
{
    /// <summary>The file's name in a folder of the machine's own.</summary>
    public const string FileName = "nvram.fd";

    private const string Element = "nvram";
    private const int ReadsMax = 5;

    /// <summary>No target of a disk has such a name.</summary>
    public static Id16 IdOf(Id16 machine) => DomainDocument.DiskId(machine, "nvram:");

    /// <summary>libvirt chooses the firmware, and where its variables lie, anew at every start; a definition need not name them.</summary>
    public static bool AreChosen(XElement root) => root.Element("os") is { } os && os.Text("firmware") == "efi" && os.Element(Element) is null;

    /// <summary>The file, also where libvirt chooses it; null as of <see cref="PathOf"/>, or libvirt does not tell.</summary>
    public static async Task<string?> FindAsync(LibvirtConnection connection, XElement root, CancellationToken cancellationToken)
    {
        if (!AreChosen(root))
        {
            return PathOf(root);
        }
        // Without its devices: what they need on the host would be made, and they have no say in this.
        var bare = new XElement(root);
        bare.Element("devices")?.Elements().Where(device => device.Name != "emulator").Remove();
        try
        {
            var line = await connection.QueryAsync(
                libvirt => LibvirtValues.TakeText(LibvirtCalls.WriteNative(libvirt, "qemu-argv", bare.ToString(SaveOptions.DisableFormatting), 0)), cancellationToken);
            using var node = JsonDocument.Parse(VariablesNode().Match(line) is { Success: true } found ? found.Groups[1].Value : "{}");
            return node.RootElement.TryGetProperty("filename", out var path) && path.ValueKind == JsonValueKind.String ? path.GetString() : null;
        }
        catch (Exception failure) when (failure is JsonException or FaultException { Reason: not FaultReason.HypervisorUnavailable })
        {
            return null;
        }
    }

    /// <summary>The file that a definition names; null: the machine has none, or <see cref="ProblemOf"/> says what it has instead.</summary>
    public static string? PathOf(XElement root) =>
        root.Element("os")?.Element(Element) is { } variables && ProblemOf(root) is null ? variables.Element("source")?.Text("file") ?? Named(variables) : null;

    /// <summary>Why the variables cannot be stored, or null.</summary>
    public static string? ProblemOf(XElement root) => root.Element("os")?.Element(Element) switch
    {
        null => null,
        var variables when variables.Text("type") is { } type and not "file" => $"they lie on a source of kind '{type}'; files can be stored",
        var variables when variables.Text("format") is { } format and not "raw" => $"their file has the format {format}; raw can be stored",
        _ => null,
    };

    /// <summary>
    /// Reads the variables as they are now. The machine may be running: the file is read until two reads agree, so that no
    /// write of the firmware is seen in part.
    /// </summary>
    /// <param name="log">Told why there is nothing to store.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the file cannot be read.</exception>
    public static async Task<IReadOnlyList<MachineContent>> ReadAsync(LibvirtConnection connection, DomainDocument document, Action<string> log, CancellationToken cancellationToken)
    {
        if (ProblemOf(document.Root) is { } problem)
        {
            log($"The firmware's variables are not stored: {problem}.");
        }
        if (await FindAsync(connection, document.Root, cancellationToken) is not { } path)
        {
            if (AreChosen(document.Root))
            {
                log("The firmware's variables are not stored: libvirt does not tell where they lie.");
            }
            return [];
        }
        try
        {
            if (!File.Exists(path))
            {
                log($"The firmware's variables are not stored: {path} does not exist; libvirt makes it when the machine is started for the first time.");
                return [];
            }
            if (new FileInfo(path).Length is var length && length is 0 or > MachineContent.BytesMax)
            {
                log($"The firmware's variables are not stored: {path} has {length} bytes; files of at most {MachineContent.BytesMax >> 20} MiB are.");
                return [];
            }
            var bytes = await ReadOnceAsync(path, cancellationToken);
            for (var reads = 1; reads < ReadsMax; reads++)
            {
                var again = await ReadOnceAsync(path, cancellationToken);
                if (again.AsSpan().SequenceEqual(bytes))
                {
                    break;
                }
                bytes = again;
            }
            return [new MachineContent(IdOf(document.Uuid), Element, MachineContentKind.Nvram, bytes)];
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The firmware's variables {path} cannot be read: {failure.Message} The agent must be root, or the user of the machine.", failure);
        }
    }

    /// <summary>Lets a definition name the file.</summary>
    public static void SetPath(XElement root, string path)
    {
        var os = root.Element("os") ?? throw FaultException.Malformed("The stored domain does not say how it starts.");
        if (os.Element(Element) is not { } variables)
        {
            os.Add(variables = new XElement(Element));
        }
        variables.Attribute("type")?.Remove();
        variables.Value = path;
        if (variables.Text("template") is { } template && !File.Exists(template))
        {
            // It is needed for a file that does not exist only.
            variables.Attribute("template")!.Remove();
        }
    }

    private static string? Named(XElement variables) => variables.Value.Trim() is { Length: > 0 } path ? path : null;

    private static async Task<byte[]> ReadOnceAsync(string path, CancellationToken cancellationToken)
    {
        using var file = File.OpenHandle(path, share: FileShare.ReadWrite, options: FileOptions.Asynchronous);
        var bytes = new byte[Math.Min(RandomAccess.GetLength(file), MachineContent.BytesMax)];
        for (var at = 0; at < bytes.Length;)
        {
            var count = await RandomAccess.ReadAsync(file, bytes.AsMemory(at), at, cancellationToken);
            at += count > 0 ? count : throw new IOException($"It ends after {at} of {bytes.Length} bytes.");
        }
        return bytes;
    }

    // QEMU's node of the second flash device, as libvirt has named it since it describes nodes in JSON; quoted for a shell.
    [GeneratedRegex("""'(\{[^']*"node-name":"libvirt-pflash1-storage"[^']*\})'""")]
    private static partial Regex VariablesNode();
}

using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>How a QEMU process was started, as the kernel keeps it.</summary>
internal sealed record QemuProcess(string Executable, string WorkingDirectory, IReadOnlyList<string> Arguments)
{
    private const int ArgumentBytesMax = 4 << 20;
    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    /// <summary>Reads <c>/proc/PID</c> (proc(5)).</summary>
    /// <exception cref="FaultException">The process is not a QEMU of its own, or the agent may not read it.</exception>
    public static async Task<QemuProcess> ReadAsync(PeerProcess peer, string socket, CancellationToken cancellationToken)
    {
        var folder = $"/proc/{peer.Pid}";
        try
        {
            var executable = File.ResolveLinkTarget($"{folder}/exe", returnFinalTarget: false)?.FullName ?? "";
            var directory = File.ResolveLinkTarget($"{folder}/cwd", returnFinalTarget: false)?.FullName ?? "/";
            var bytes = await ReadBoundedAsync($"{folder}/cmdline", cancellationToken);
            if (bytes is not [.., 0])
            {
                throw new FaultException(FaultReason.Unsupported, $"The command line of process {peer.Pid} behind {socket} cannot be read whole.");
            }
            var text = Strict.GetString(bytes.AsSpan(0, bytes.Length - 1));
            var arguments = text.Split('\0');
            if (!Path.GetFileName(executable).Contains("qemu", StringComparison.Ordinal))
            {
                throw new FaultException(FaultReason.Unsupported,
                    $"The monitor {socket} was opened by {executable}, not by QEMU itself, so that the machine's configuration cannot be read from it.");
            }
            // An upgraded package unlinks the running binary.
            const string deleted = " (deleted)";
            executable = executable.EndsWith(deleted, StringComparison.Ordinal) ? executable[..^deleted.Length] : executable;
            return new QemuProcess(executable, directory, arguments[1..]);
        }
        catch (DecoderFallbackException failure)
        {
            throw new FaultException(FaultReason.Unsupported, $"The command line of QEMU behind {socket} is not valid UTF-8.", failure);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.HypervisorUnavailable,
                $"Process {peer.Pid} behind {socket} cannot be examined: {failure.Message} The agent must run as root or as QEMU's user.", failure);
        }
    }

    private static async Task<byte[]> ReadBoundedAsync(string path, CancellationToken cancellationToken)
    {
        await using var stream = File.OpenRead(path);
        var buffer = new byte[ArgumentBytesMax];
        var count = await stream.ReadAtLeastAsync(buffer, buffer.Length, throwOnEndOfStream: false, cancellationToken);
        return buffer[..count];
    }
}

/// <summary>A disk as the stored arguments name it.</summary>
/// <param name="File">The image's file name exactly as QEMU reports it: of the topmost file of its chain that the arguments name.</param>
internal sealed record ArgvDisk(string Id, string Name, string File, string Format, bool Captured);

/// <summary>
/// The native document <c>qemu-argv</c>: everything needed to start the machine again, verbatim but for disks that were
/// plugged in later (<see cref="LaterDisks"/>), which disk is behind which file name, and what serves its TPM. JSON.
/// </summary>
internal sealed record ArgvDocument(
    string Executable, string WorkingDirectory, IReadOnlyList<string> Arguments, IReadOnlyList<ArgvDisk> Disks, string QmpSocket, string? GuestAgentSocket,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] ArgvTpm? Tpm = null)
{
    public const string Kind = "qemu-argv";
    private static readonly JsonSerializerOptions Options = new(JsonSerializerDefaults.Web) { RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true };

    public byte[] Write() => JsonSerializer.SerializeToUtf8Bytes(this, Options);

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>.</exception>
    public static ArgvDocument Read(ReadOnlySpan<byte> bytes)
    {
        try
        {
            var document = JsonSerializer.Deserialize<ArgvDocument>(bytes, Options);
            if (document is not null && document.Executable.Length > 0 && document.Arguments.All(argument => argument is not null && !argument.Contains('\0'))
                && document.Disks.All(disk => disk is not null) && (document.Tpm is null || Path.IsPathFullyQualified(document.Tpm.StateFolder)) && Path.IsPathFullyQualified(document.WorkingDirectory))
            {
                return document;
            }
        }
        catch (JsonException)
        {
            // reported below, alike
        }
        throw FaultException.Malformed($"The stored machine configuration is not a '{Kind}' document.");
    }
}

using System.Security.Cryptography;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Leases;

/// <summary>Who takes leases from a folder that one process at a time has for its own.</summary>
internal static class LeaseHolder
{
    private const string FileName = "holder";

    /// <summary>For people.</summary>
    public static string Name => $"process {Environment.ProcessId} on {Environment.MachineName}";

    /// <summary>
    /// The same for every process that has the folder between two boots of this host: of those, all but the last one have ended. A copy of the
    /// folder, here or on another host, or of the whole host, is another holder.
    /// </summary>
    /// <param name="folder">It exists.</param>
    /// <param name="entropy">Names a folder that has no name yet.</param>
    /// <exception cref="FaultException">The folder cannot be used.</exception>
    public static Id16 IdOf(string folder, IEntropy entropy)
    {
        if (ReadBoot() is not { } boot)
        {
            return Id16.Create(entropy);
        }
        var path = Path.Combine(folder, FileName);
        try
        {
            if (!File.Exists(path) || !Id16.TryParse(File.ReadAllText(path), out var name))
            {
                name = Id16.Create(entropy);
                File.WriteAllText(path, name.ToString());
            }
            return Id16.Read(SHA256.HashData(Encoding.UTF8.GetBytes($"{boot} {name} {Path.GetFullPath(folder)}")));
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.Denied, $"The file '{path}' cannot be used ({failure.Message.TrimEnd('.')}): check owner and device of its folder.", failure);
        }
    }

    /// <summary>The kernel names each boot.</summary>
    private static string? ReadBoot()
    {
        try
        {
            return File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim() is { Length: > 0 } boot ? boot : null;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}

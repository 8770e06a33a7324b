using System.Security.Cryptography;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Testing.Platforms;

/// <summary>Names that the drivers here give to what is theirs.</summary>
internal static class PlatformNames
{
    private const string Prefix = "virtbackup-";

    public static string Of(Id16 point) => Prefix + point;

    /// <summary>The point in the name of a snapshot or checkpoint of ours; null: it is somebody else's.</summary>
    public static Id16? FindPoint(string name) => name.StartsWith(Prefix, StringComparison.Ordinal) && Id16.TryParse(name[Prefix.Length..], out var point) ? point : null;

    /// <summary>A disk's id: stable while it keeps its place in the machine.</summary>
    public static Id16 DiskId(Id16 machine, string place) => Id16.Read(SHA256.HashData(Encoding.UTF8.GetBytes($"{machine} {place}")));
}

/// <summary>A machine that a driver here protects.</summary>
public sealed record PlatformMachine(Id16 Id, string Name);

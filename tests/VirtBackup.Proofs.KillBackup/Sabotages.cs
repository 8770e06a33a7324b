using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.KillBackup;

/// <summary>Faults planted around the product, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string ForgetWrites = "forget-writes";
    public const string DamagePack = "damage-pack";
    public const string MissRange = "miss-range";

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (ForgetWrites, "empties the dirty bitmaps before the backup after the kill: what the guest wrote is missed"),
        (MissRange, "drops one range of a restored disk, as a lost dirty bit would"),
        (DamagePack, "flips one bit of a stored pack after the first backup"),
    ];

    /// <summary>Clears the product's bitmaps that record: what was written since the newest cut is forgotten.</summary>
    public static async Task ForgetWritesAsync(LabVm vm)
    {
        foreach (var bitmap in (await ListBitmapsAsync(vm)).Where(bitmap => bitmap.Recording))
        {
            await vm.QmpAsync("block-dirty-bitmap-clear", $$"""{"node":"{{bitmap.Node}}","name":"{{bitmap.Name}}"}""");
        }
    }

    /// <summary>The product's bitmaps in QEMU. QEMU's own have no name.</summary>
    public static async Task<IReadOnlyList<(string Node, string Name, bool Recording)>> ListBitmapsAsync(LabVm vm) =>
        [.. from node in (await vm.QmpAsync("query-named-block-nodes", """{"flat":true}""")).EnumerateArray()
            where node.TryGetProperty("dirty-bitmaps", out _)
            from bitmap in node.GetProperty("dirty-bitmaps").EnumerateArray()
            let name = bitmap.TryGetProperty("name", out var text) ? text.GetString()! : ""
            where name.StartsWith("virtbackup-", StringComparison.Ordinal)
            select (node.GetProperty("node-name").GetString()!, name, bitmap.GetProperty("recording").GetBoolean())];

    /// <summary>Writes a pattern that no guest wrote over 64 KiB of an image.</summary>
    public static Task<string> MissRangeAsync(string image) => Proc.CheckAsync(
        "qemu-io", ["-f", image.EndsWith(".raw", StringComparison.Ordinal) ? "raw" : "qcow2", "-c", "write -P 0xa7 32M 64k", image]);

    public static void DamagePackOf(Installation installation)
    {
        var pack = new DirectoryInfo(installation.Repository).EnumerateFiles("*", SearchOption.AllDirectories).MaxBy(file => file.Length)!;
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(pack.FullName, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        using var file = pack.Open(FileMode.Open, FileAccess.ReadWrite);
        file.Position = file.Length / 2;
        var damaged = (byte)(file.ReadByte() ^ 0x10);
        file.Position--;
        file.WriteByte(damaged);
    }
}

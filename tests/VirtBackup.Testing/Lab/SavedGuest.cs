using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace VirtBackup.Testing.Lab;

/// <summary>
/// The memory and disks of a guest that was up, kept below the lab's folder for one kind of machine: to go on from them takes a tenth
/// of the processor time of a boot. Kept when a kind is asked for again and again. Any number of processes may ask at once.
/// </summary>
/// <remarks>
/// What a guest knows of itself is of the machine that was saved: its UUID in the firmware's tables, its network address. Its clock is
/// set, and its random numbers are its own: it was idle for so long before it was saved that it seeds them anew at once, from
/// the processor's instruction.
/// </remarks>
internal sealed class SavedGuest
{
    private const string StateFile = "state";

    /// <summary>Linux seeds anew after half of its time since the boot, below two minutes (drivers/char/random.c).</summary>
    private static readonly TimeSpan IdleBefore = TimeSpan.FromSeconds(8);

    /// <summary>To save one costs as much as three boots: how often a kind was asked for when that is done.</summary>
    private const int KeptFrom = 3;

    private readonly string _folder;

    private SavedGuest(string folder) => _folder = folder;

    /// <summary>Where to migrate from.</summary>
    public string Uri => $"exec:cat '{Path.Combine(_folder, StateFile)}'";

    public string Disk(string nodeName) => Path.Combine(_folder, nodeName);

    /// <summary>Null: none is kept, and it was asked for too seldom, is made by another process, or cannot be kept for such a machine.</summary>
    public static async Task<SavedGuest?> FindAsync(LabVmOptions options, LabGuest guest, CancellationToken cancellationToken)
    {
        if (options.ExtraArguments.Count > 0 || options.GuestAgentLog is not null || options.AllDisks(guest).Any(disk => disk.UseInPlace is not null)) return null;
        var folder = Path.Combine(guest.Directory, "saved", KeyOf(options, guest));
        if (File.Exists(Path.Combine(folder, StateFile))) return new SavedGuest(folder);
        Directory.CreateDirectory(Path.GetDirectoryName(folder)!);
        await using var turn = TryTakeTurn(folder + ".turn");
        if (turn is null) return null;
        if (File.Exists(Path.Combine(folder, StateFile))) return new SavedGuest(folder);
        turn.Position = turn.Length;
        turn.WriteByte(0);
        if (turn.Length < KeptFrom) return null;
        await KeepAsync(options, guest, folder, cancellationToken);
        return new SavedGuest(folder);
    }

    /// <summary>Null: another one has it.</summary>
    private static FileStream? TryTakeTurn(string path)
    {
        try
        {
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static async Task KeepAsync(LabVmOptions options, LabGuest guest, string folder, CancellationToken cancellationToken)
    {
        var making = folder + ".making";
        if (Directory.Exists(making)) Directory.Delete(making, recursive: true);
        Directory.CreateDirectory(making);
        await using var vm = await LabVm.StartAsync(options with { Uuid = null }, cancellationToken);
        await vm.WaitForAgentAsync(cancellationToken);
        await Task.Delay(IdleBefore, cancellationToken);
        await vm.QmpAsync("stop", null, cancellationToken);
        await vm.QmpAsync("migrate", new JsonObject { ["uri"] = $"exec:cat > '{Path.Combine(making, StateFile)}'" }.ToJsonString(), cancellationToken);
        await vm.WaitForMigrationAsync(cancellationToken);
        await vm.QuitAsync(cancellationToken);
        foreach (var disk in vm.Disks) await CopyAsync(disk.Path, Path.Combine(making, disk.NodeName), cancellationToken);
        Directory.Move(making, folder);
    }

    /// <summary>A copy with the same holes.</summary>
    public static Task CopyAsync(string from, string to, CancellationToken cancellationToken) =>
        Proc.CheckAsync("cp", ["--sparse=always", "--reflink=auto", from, to], cancellationToken: cancellationToken);

    /// <summary>Of all that decides what the guest's memory fits: the guest, the program, and the machine but for its name, places and addresses.</summary>
    private static string KeyOf(LabVmOptions options, LabGuest guest)
    {
        var program = new FileInfo($"/usr/bin/{LabVm.Program}");
        var kinds = options.AllDisks(guest).Select(disk => new LabVmDisk(disk.NodeName, disk.Device, $"{disk.CopyFrom} {disk.Size}", disk.Format, disk.Bus)).ToList();
        var arguments = LabVmArguments.For(options with { Name = "" }, Guid.Empty, guest, new LabVmPaths(""), kinds);
        var text = string.Join('\n', [File.ReadAllText(Path.Combine(guest.Directory, "stamp")), $"{program.Length} {program.LastWriteTimeUtc:O}", .. arguments]);
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)))[..16];
    }
}

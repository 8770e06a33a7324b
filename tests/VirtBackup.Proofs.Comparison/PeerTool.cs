using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.Comparison;

/// <summary>virtnbdbackup with compression, and virtnbdrestore.</summary>
internal sealed class PeerTool(ComparedGuest guest, string folder) : ITool
{
    private readonly Virtnbdbackup _program = new(guest.Libvirt);

    public string Name => "virtnbdbackup";

    private string Output => Path.Combine(folder, "peer");

    public Task BeginAsync() => Task.CompletedTask;

    public Task BackUpFullyAsync() => _program.BackUpAsync(guest.Name, "full", Output, Patience.Work, "-z");

    public Task BackUpChangesAsync() => _program.BackUpAsync(guest.Name, "inc", Output, Patience.Work, "-z");

    public async Task<IReadOnlyDictionary<string, string>> RestoreAsync(string target)
    {
        await _program.RestoreAsync(Output, target, Patience.Work);
        // It keeps the names of the images.
        return new Dictionary<string, string>(StringComparer.Ordinal) { [ComparedGuest.Disk] = Path.Combine(target, Path.GetFileName(guest.DiskPath)) };
    }

    public long MeasureStored() => Folders.Measure(Output);

    public async Task EndAsync()
    {
        Directory.Delete(Output, recursive: true);
        await _program.ForgetAsync(guest.Name, OwnTool.CheckpointPrefix);
    }
}

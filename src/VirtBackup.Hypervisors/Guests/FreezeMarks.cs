using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Guests;

/// <summary>
/// Files of a capture's folder that say what was done to the guest and not yet undone, for whoever has to undo it: the
/// watchdog, or the next start of the agent. A mark is made before the deed and removed behind its undoing.
/// </summary>
internal sealed class FreezeMarks(string folder)
{
    public const string Stopped = "stopped";
    public const string Frozen = "frozen";
    /// <summary>The machine is being saved, and to be brought back from what was saved.</summary>
    public const string Saved = "saved";
    /// <summary>The hook before the freeze was begun; holds the one to be run after the thaw.</summary>
    public const string Hooked = "hooked";
    private const int HookBytesMax = 256 << 10;

    public string Folder => folder;

    public bool Any => Has(Stopped) || Has(Frozen) || Has(Hooked) || Has(Saved);

    public bool Has(string mark) => File.Exists(PathOf(mark));

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the folder cannot be written to.</exception>
    public void Set(string mark) => Write(mark, []);

    public void SetHooked(GuestCommand? afterThaw) => Write(Hooked, JsonSerializer.SerializeToUtf8Bytes(afterThaw));

    public void Remove(string mark) => File.Delete(PathOf(mark));

    /// <summary>The hook to be run after the thaw; null: none, or the mark cannot be read.</summary>
    public GuestCommand? FindAfterThaw()
    {
        try
        {
            var bytes = File.Exists(PathOf(Hooked)) && new FileInfo(PathOf(Hooked)).Length <= HookBytesMax ? File.ReadAllBytes(PathOf(Hooked)) : [];
            return bytes.Length > 0 && JsonSerializer.Deserialize<GuestCommand>(bytes) is { Words: { Count: > 0 and <= GuestCommand.WordsMax } words } command && !words.Contains(null!)
                ? command : null;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or JsonException)
        {
            return null;
        }
    }

    private string PathOf(string mark) => Path.Combine(folder, mark);

    private void Write(string mark, byte[] content)
    {
        try
        {
            // The folder may be another user's: what lies there, such as a link, is not written to.
            File.Delete(PathOf(mark));
            using var file = new FileStream(PathOf(mark), FileMode.CreateNew, FileAccess.Write);
            file.Write(content);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The folder {folder} cannot be written to: {failure.Message}", failure);
        }
    }
}

using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>A machine that came to this host by a restore, and where all of it lies.</summary>
/// <param name="Folder">Made by the restore.</param>
/// <param name="Complete">False: the restore is under way, or broke off.</param>
/// <param name="QmpSocket">Of a machine without a manager; else empty, as are script and log.</param>
/// <param name="Point">What its disks hold, while they are as <paramref name="Stamps"/> say; null: unknown.</param>
/// <param name="Files">What the restore makes in the folder, whether it is there or not.</param>
internal sealed record AdoptedMachine(
    string Machine, string Name, string Folder, bool Complete, string QmpSocket, string? GuestAgentSocket, string Script, string Log, string? Point, IReadOnlyList<FileStamp> Stamps,
    IReadOnlyList<string>? Files = null);

/// <summary>How a file was when it was last written by a restore: a later write changes the time.</summary>
internal sealed record FileStamp(string Path, long Length, long WrittenTicks)
{
    public static FileStamp Of(string path)
    {
        var file = new FileInfo(path);
        return new FileStamp(path, file.Length, file.LastWriteTimeUtc.Ticks);
    }
}

/// <summary>A machine of this host that is not to be started here any more.</summary>
/// <param name="Deleted">Its disks are gone; the record stays, since the agent's configuration may still name the machine.</param>
/// <param name="Definition">Of a machine with a manager, which has forgotten it.</param>
/// <param name="Renamed">All its disks got their new names once: what lies under the old ones since is somebody else's.</param>
internal sealed record RetiredRecord(string Machine, string Name, IReadOnlyList<RenamedFile> Files, bool Deleted, string? Definition = null, bool Renamed = false);

internal sealed record RenamedFile(string From, string To);

/// <summary>Small durable records about machines that move, in the agent's folder. Each is replaced as a whole.</summary>
internal sealed class MovingRecords(string? folder)
{
    private const string Adopted = "adopted-";
    private static readonly JsonSerializerOptions Options = new(JsonSerializerDefaults.Web) { RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true };

    public AdoptedMachine? FindAdopted(Id16 machine) => Read<AdoptedMachine>("adopted", machine);

    public RetiredRecord? FindRetired(Id16 machine) => Read<RetiredRecord>("retired", machine);

    /// <summary>Complete or not, and whether their records can be read or not.</summary>
    public IReadOnlyList<Id16> ListAdopted() =>
        folder is null || !Directory.Exists(folder) ? []
        : [.. Directory.EnumerateFiles(folder, $"{Adopted}*.json").Order(StringComparer.Ordinal)
            .Select(static path => Id16.TryParse(Path.GetFileNameWithoutExtension(path)[Adopted.Length..], out var machine) ? machine : default).Where(static machine => !machine.IsEmpty)];

    public void Write(AdoptedMachine machine) => Write("adopted", Id16.Parse(machine.Machine), machine);

    public void Write(RetiredRecord machine) => Write("retired", Id16.Parse(machine.Machine), machine);

    public void RemoveAdopted(Id16 machine) => Remove("adopted", machine);

    public void RemoveRetired(Id16 machine) => Remove("retired", machine);

    private T? Read<T>(string kind, Id16 machine) where T : class => folder is null ? null : Read<T>(PathOf(folder, kind, machine));

    private static T? Read<T>(string path) where T : class
    {
        try
        {
            return File.Exists(path) ? JsonSerializer.Deserialize<T>(File.ReadAllBytes(path), Options) : null;
        }
        catch (FileNotFoundException)
        {
            return null;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The agent's record {path} cannot be read: {failure.Message}", failure);
        }
    }

    private void Write<T>(string kind, Id16 machine, T record)
    {
        if (folder is null)
        {
            throw new FaultException(FaultReason.FailedPrecondition, "This agent has no folder for records of machines that move.");
        }
        try
        {
            PrivateFolder.Create(folder);
            DurableFile.Write(PathOf(folder, kind, machine), JsonSerializer.SerializeToUtf8Bytes(record, Options));
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The folder {folder} cannot be written: {failure.Message}", failure);
        }
    }

    private void Remove(string kind, Id16 machine)
    {
        if (folder is not null && File.Exists(PathOf(folder, kind, machine)))
        {
            File.Delete(PathOf(folder, kind, machine));
            DurableFolder.Flush(folder);
        }
    }

    private static string PathOf(string folder, string kind, Id16 machine) => Path.Combine(folder, $"{kind}-{machine}.json");
}

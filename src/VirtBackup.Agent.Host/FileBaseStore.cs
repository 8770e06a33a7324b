using System.Text.Json;
using System.Text.Json.Serialization;
using VirtBackup.Agent.State;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Host;

/// <summary>
/// Base records as one JSON file per machine: written aside, flushed and renamed. A file that cannot be read counts as
/// none: the next backup reads everything, and nothing is lost.
/// </summary>
public sealed class FileBaseStore : IBaseStore
{
    private readonly string _folder;

    public FileBaseStore(string folder)
    {
        _folder = folder;
        PrivateFolder.Create(folder);
    }

    public async ValueTask<IReadOnlyList<BaseRecord>> LoadAsync(Id16 machine, CancellationToken cancellationToken)
    {
        try
        {
            await using var file = File.OpenRead(PathOf(machine));
            var stored = await JsonSerializer.DeserializeAsync(file, BaseJson.Default.StoredBases, cancellationToken);
            return stored is { Version: 1 } ? [.. stored.Bases.Select(basis => basis.ToRecord())] : [];
        }
        catch (Exception exception) when (exception is IOException or JsonException or FormatException or UnauthorizedAccessException or NullReferenceException or ArgumentException)
        {
            return [];
        }
    }

    public async ValueTask SaveAsync(Id16 machine, IReadOnlyList<BaseRecord> records, CancellationToken cancellationToken)
    {
        var path = PathOf(machine);
        var aside = path + ".new";
        try
        {
            await using (var file = new FileStream(aside, FileMode.Create, FileAccess.Write))
            {
                await JsonSerializer.SerializeAsync(file, new StoredBases(1, [.. records.Select(StoredBase.From)]), BaseJson.Default.StoredBases, cancellationToken);
                file.Flush(flushToDisk: true);
            }
            // Losing the rename in a crash only brings back the older record, which the controller's answer tells apart.
            File.Move(aside, path, overwrite: true);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.DeviceFull, $"The agent's state {path} cannot be written: {exception.Message}", exception);
        }
    }

    private string PathOf(Id16 machine) => Path.Combine(_folder, $"{machine}.json");
}

internal sealed record StoredBases(int Version, List<StoredBase> Bases);

internal sealed record StoredBase(string Point, string ManifestHash, List<StoredBaseDisk> Disks, List<string> Epochs, string? Suspicion = null)
{
    public static StoredBase From(BaseRecord record) => new(
        record.Point.ToString(),
        record.ManifestHash.ToString(),
        [.. record.Disks.Select(StoredBaseDisk.From)],
        [.. record.Epochs.Select(epoch => epoch.ToString())],
        record.Suspicion);

    public BaseRecord ToRecord() => new(Id16.Parse(Point), Id32.Parse(ManifestHash), [.. Disks.Select(disk => disk.ToDisk())], [.. Epochs.Select(Id16.Parse)])
    {
        Suspicion = Suspicion,
    };
}

internal sealed record StoredBaseDisk(string Disk, long LengthBytes, byte Chunker, byte ChunkLog2, byte SpanLog2, string Root, string? BaseToken = null,
    StoredRotation? Rotation = null)
{
    public static StoredBaseDisk From(BaseDisk disk) => new(
        disk.Disk.ToString(), disk.LengthBytes, (byte)disk.Shape.Chunker, disk.Shape.ChunkLog2, disk.Shape.SpanLog2, disk.Root.ToString(), disk.BaseToken,
        disk.Rotation is { } rotation ? new StoredRotation(rotation.Key.ToString(), rotation.Position, rotation.Runs) : null);

    public BaseDisk ToDisk() => new(Id16.Parse(Disk), LengthBytes, new MapShape((Chunker)Chunker, ChunkLog2, SpanLog2), Id32.Parse(Root), BaseToken ?? "")
    {
        Rotation = Rotation?.ToRotation(),
    };
}

internal sealed record StoredRotation(string Key, long Position, int Runs)
{
    /// <summary>One that cannot be begins anew, which only reads some of the disk once more.</summary>
    public AuditRotation? ToRotation() => Position >= 0 && Runs >= 0 ? new AuditRotation(Id32.Parse(Key), Position, Runs) : null;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true)]
[JsonSerializable(typeof(StoredBases))]
internal sealed partial class BaseJson : JsonSerializerContext;

using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Scrubbing;

namespace VirtBackup.Proofs.Heal;

/// <summary>Hands out records of a repository as they lie in its packs. A planted defect may spoil them.</summary>
internal sealed class TwinSource(Twin twin, string? defect) : IRecordSource
{
    public const string CorruptCopy = "corrupt-copy";
    public const string OtherRecord = "other-record";
    public const string WholePack = "whole-pack";

    private byte[]? _first;

    public string Name => $"repository {twin.Name}";

    /// <summary>What was handed out.</summary>
    public List<(RecordKind Kind, Id32 Id)> Asked { get; } = [];

    public async ValueTask<ReadOnlyMemory<byte>?> FetchAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken)
    {
        Asked.Add((kind, id));
        if (await FindAsync(kind, id, scope, cancellationToken) is not { } found)
        {
            return null;
        }
        var record = await ReadAsync(found.Pack, found.Bytes, found.Location, cancellationToken);
        if (defect == CorruptCopy)
        {
            record[^1] ^= 1;
        }
        return defect == OtherRecord ? _first ??= record : record;
    }

    private ValueTask<(Id32 Pack, long Bytes, ObjectLocation Location)?> FindAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken) =>
        twin.Index.ReadAsync<(Id32, long, ObjectLocation)?>(
            connection =>
            {
                var locations = new List<ObjectLocation>();
                if (ObjectTable.FindScope(connection, scope) is { } number)
                {
                    ObjectTable.FindLocations(connection, kind, number, id, locations);
                }
                return locations.Count > 0 && !locations[0].IsDoubtful && PackTable.Find(connection, locations[0].Pack) is { } pack
                    ? (pack.Hash, pack.Bytes, locations[0])
                    : null;
            },
            cancellationToken);

    private async ValueTask<byte[]> ReadAsync(Id32 pack, long bytes, ObjectLocation location, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Pack(pack);
        if (defect == WholePack)
        {
            var all = await twin.Store.ReadAllAsync(key, (int)bytes, cancellationToken);
            return all.AsSpan((int)location.Position, location.RecordLength).ToArray();
        }
        var record = new byte[location.RecordLength];
        await twin.Store.ReadExactlyAsync(key, location.Position, record, cancellationToken);
        return record;
    }
}

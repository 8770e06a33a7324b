using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Reading;

/// <summary>Reads map nodes by id. Every node is checked against its id; another copy is tried when one is damaged.</summary>
internal sealed class NodeReader(IObjectStore store, IDatabase index)
{
    private readonly IObjectStore _near = store.Near;

    /// <summary>The node's bytes.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.NotFound"/>: not stored; <see cref="FaultReason.Corrupt"/>: no copy of it is whole.
    /// </exception>
    public async ValueTask<byte[]> ReadAsync(Id32 id, CancellationToken cancellationToken)
    {
        FaultException? failure = null;
        // Twice: packs may move between the look into the index and the read.
        for (var round = 0; round < 2; round++)
        {
            foreach (var (key, location) in await LocateAsync(id, cancellationToken))
            {
                try
                {
                    return await ReadAtAsync(id, key, location, cancellationToken);
                }
                catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.Corrupt or FaultReason.Malformed or FaultReason.Unavailable)
                {
                    failure = fault;
                }
            }
        }
        if (failure?.Reason == FaultReason.Unavailable)
        {
            throw new FaultException(FaultReason.Unavailable, failure.Message, failure);
        }
        throw failure is null
            ? new FaultException(FaultReason.NotFound, $"The map node {id} is not in the repository.")
            : FaultException.Corrupt($"The map node {id} cannot be read: {failure.Message} Verify the repository.");
    }

    private async ValueTask<byte[]> ReadAtAsync(Id32 id, string key, ObjectLocation location, CancellationToken cancellationToken)
    {
        var record = new byte[location.RecordLength];
        await _near.ReadExactlyAsync(key, location.Position, record, cancellationToken);
        return Parse(id, key, location, record);
    }

    /// <summary>The node of a record, proven by its id.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>, <see cref="FaultReason.Malformed"/>: it is not that node.</exception>
    public static byte[] Parse(Id32 id, string key, ObjectLocation location, ReadOnlySpan<byte> record)
    {
        var header = RecordHeader.Parse(record);
        var node = record[RecordHeader.Size..];
        if (header.Kind != RecordKind.Map || header.Id != id || header.SealedLength != node.Length)
        {
            throw FaultException.Corrupt($"The pack {key} holds another record at byte {location.Position} than its footer says.");
        }
        NodeId.Require(node, id);
        return node.ToArray();
    }

    private ValueTask<List<(string Key, ObjectLocation Location)>> LocateAsync(Id32 id, CancellationToken cancellationToken) =>
        index.ReadAsync(
            connection =>
            {
                var locations = new List<ObjectLocation>();
                var found = new List<(string, ObjectLocation)>();
                if (ObjectTable.FindScope(connection, Id16.Empty) is { } scope)
                {
                    ObjectTable.FindLocations(connection, RecordKind.Map, scope, id, locations);
                    foreach (var location in locations)
                    {
                        if (PackTable.FindHash(connection, location.Pack) is { } hash)
                        {
                            found.Add((ObjectKeys.Pack(hash), location));
                        }
                    }
                }
                return found;
            },
            cancellationToken);
}

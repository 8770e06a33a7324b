using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Sealing;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Installation;

/// <summary>A record as it lies in a pack.</summary>
internal sealed record StoredRecord(string PackKey, PackEntry Entry, ReadOnlyMemory<byte> Bytes);

/// <summary>An entry of a stream's map and where it belongs.</summary>
internal readonly record struct PlacedEntry(Id16 Stream, long Offset, MapEntry Entry);

/// <summary>A node of a stream's map and what it covers.</summary>
internal readonly record struct PlacedNode(Id16 Stream, Id32 Id, ByteRange Range);

/// <summary>
/// Reads a whole repository as FORMAT.md describes it, with nothing but the parsers of the format and the keys: every
/// object must be sound, and everything below every manifest must be there.
/// </summary>
internal sealed class Census
{
    private readonly Dictionary<(RecordKind Kind, Id32 Id, Id16 Scope), List<StoredRecord>> _records = [];
    private readonly Dictionary<string, byte[]> _objects = new(StringComparer.Ordinal);

    private Census()
    {
    }

    public IReadOnlyDictionary<string, byte[]> Objects => _objects;

    public Dictionary<Id16, Manifest> Points { get; } = [];

    /// <summary>Points that can be brought back: their manifests lie in the trash, and not at their own keys.</summary>
    public Dictionary<Id16, Manifest> Forgotten { get; } = [];

    /// <summary>Objects on their way out.</summary>
    public List<string> Trash { get; } = [];

    public Dictionary<string, List<StoredRecord>> Packs { get; } = new(StringComparer.Ordinal);

    /// <param name="store">Is read from the first to the last object.</param>
    /// <param name="damaged">Objects that are taken to be these bytes; null: to be absent.</param>
    /// <exception cref="RefutedException">An object is not sound.</exception>
    public static async Task<Census> TakeAsync(IObjectStore store, IReadOnlyDictionary<string, byte[]?>? damaged = null)
    {
        var census = new Census();
        foreach (var (key, bytes) in damaged ?? new Dictionary<string, byte[]?>())
        {
            if (bytes is not null)
            {
                census._objects.Add(key, bytes);
            }
        }
        await foreach (var info in store.ListAsync("", CancellationToken.None))
        {
            if (damaged?.ContainsKey(info.Key) != true)
            {
                census._objects.Add(info.Key, await store.ReadAllAsync(info.Key, Limits.PackBytesMax, CancellationToken.None));
            }
        }
        foreach (var (key, bytes) in census._objects)
        {
            try
            {
                census.Read(key, bytes);
            }
            catch (FaultException fault)
            {
                throw new RefutedException($"The object {key} is not sound: {fault.Message}");
            }
        }
        foreach (var point in census.Points.Keys)
        {
            census.Forgotten.Remove(point);
        }
        return census;
    }

    public IReadOnlyList<StoredRecord> Find(RecordKind kind, Id32 id, Id16 scope) => _records.GetValueOrDefault((kind, id, scope)) ?? [];

    /// <summary>All entries and nodes of a point's disks.</summary>
    /// <exception cref="RefutedException">A node is missing or wrong.</exception>
    public (List<PlacedEntry> Entries, List<PlacedNode> Nodes) Walk(Manifest manifest)
    {
        var (entries, nodes) = (new List<PlacedEntry>(), new List<PlacedNode>());
        foreach (var stream in manifest.Head.Streams)
        {
            if (!stream.Root.IsZero)
            {
                Walk(manifest, stream, stream.Root, stream.Geometry.Height, 0, entries, nodes);
            }
        }
        return (entries, nodes);
    }

    /// <summary>Proves a point: its signature, its keys, its map and every byte of its disks.</summary>
    /// <param name="manifest">One of <see cref="Points"/>.</param>
    /// <param name="escrow">The keys.</param>
    /// <param name="source">The disks as they were.</param>
    /// <param name="proven">What other censuses have found already.</param>
    /// <exception cref="RefutedException">It is not the source, or not all of it.</exception>
    public void RequirePoint(Manifest manifest, EscrowKeys escrow, IReadOnlyDictionary<Id16, byte[]> source, ProvenObjects proven)
    {
        var head = manifest.Head;
        try
        {
            proven.RequireSignature(manifest, Require(ObjectKeys.Agent(head.AgentKeyId)));
            var vmKeys = head.Epochs.ToDictionary(
                epoch => epoch, epoch => proven.Open(Require(ObjectKeys.VmKey(head.Vm, epoch, escrow.RestoreKey.Public.Id)), escrow.RestoreKey));
            _ = ManifestSealing.Open(manifest, vmKeys[head.BodyEpoch]);
            var entries = Walk(manifest).Entries.Where(place => !place.Entry.IsZero).Select(place => (Place: place, Copies: Find(RecordKind.Data, place.Entry.Id, head.Scope))).ToList();
            if (entries.FirstOrDefault(entry => entry.Copies.Count == 0) is { Copies: not null } lost)
            {
                throw new RefutedException($"Point {head.Point} is visible, but its chunk {lost.Place.Entry.Id} is not stored.");
            }
            if (proven.AreDisks(manifest, entries.SelectMany(entry => entry.Copies), source))
            {
                return;
            }
            using var idKey = escrow.Root.DeriveIdKey(head.Scope, head.IdGeneration);
            using var ring = new ChunkKeyRing([idKey]);
            using var opener = new ChunkOpener(ring);
            var disks = source.ToDictionary(disk => disk.Key, disk => new byte[disk.Value.Length]);
            foreach (var ((stream, offset, entry), copies) in entries)
            {
                foreach (var copy in copies)
                {
                    opener.Open(copy.Bytes.Span, entry.Id, vmKeys[entry.EpochId].Unmask(entry.Id, entry.MaskedSecret), disks[stream].AsSpan((int)offset, entry.Length));
                }
            }
            foreach (var disk in disks)
            {
                if (!disk.Value.AsSpan().SequenceEqual(source[disk.Key]))
                {
                    throw new RefutedException($"Disk {disk.Key} of point {head.Point} is not what the machine held.");
                }
            }
            proven.NoteDisks(manifest, entries.SelectMany(entry => entry.Copies), source);
        }
        catch (Exception failure) when (failure is FaultException or KeyNotFoundException)
        {
            throw new RefutedException($"Point {head.Point} cannot be read: {failure.Message}");
        }
    }

    /// <summary>Proves that everything that was acknowledged is there.</summary>
    public void RequireAcknowledged(Acknowledged acknowledged)
    {
        foreach (var (point, bytes) in acknowledged.Commits)
        {
            if (!Points.TryGetValue(point, out var manifest) || !manifest.Bytes.Span.SequenceEqual(bytes))
            {
                throw new RefutedException($"The commit of point {point} was acknowledged, but its manifest is not stored.");
            }
        }
        if (acknowledged.Points.FirstOrDefault(point => !Points.ContainsKey(point)) is { IsEmpty: false } lost)
        {
            throw new RefutedException($"The controller has said that point {lost} is committed, but its manifest is not stored.");
        }
        RequireUploads(acknowledged);
    }

    /// <summary>Proves that keys and records that were acknowledged are there, unless they are too old to be kept for nobody.</summary>
    /// <param name="acknowledged">What an agent was told.</param>
    /// <param name="sinceMs">Records that were sent before need not be there, if their session is over; Unix milliseconds.</param>
    /// <param name="life">The life of the controller that has just ended; null: no session is open.</param>
    public void RequireUploads(Acknowledged acknowledged, long sinceMs = 0, Power? life = null)
    {
        foreach (var bytes in acknowledged.Keys)
        {
            var key = KeyObject.Parse(bytes);
            if (!_objects.TryGetValue(ObjectKeys.VmKey(key.Vm, key.Epoch, key.Recipient), out var stored) || !stored.AsSpan().SequenceEqual(bytes))
            {
                throw new RefutedException($"The key object of epoch {key.Epoch} was acknowledged, but is not stored.");
            }
        }
        foreach (var (header, session, sentMs) in acknowledged.Records())
        {
            if (Find(header.Kind, header.Id, header.Scope).Count == 0 && (sentMs >= sinceMs || (life is not null && acknowledged.IsOpen(session, life))))
            {
                throw new RefutedException($"The {header.Kind} record {header.Id} was acknowledged as durable, but is not stored.");
            }
        }
    }

    private byte[] Require(string key) => _objects.GetValueOrDefault(key) ?? throw new RefutedException($"The object {key} is missing.");

    private void Walk(Manifest manifest, ManifestStream stream, Id32 id, int level, long index, List<PlacedEntry> entries, List<PlacedNode> nodes)
    {
        var place = stream.Geometry.PlaceOf(level, index);
        var offset = stream.Geometry.OffsetOf(level, index);
        var copies = Find(RecordKind.Map, id, Id16.Empty);
        if (copies.Count == 0)
        {
            throw new RefutedException($"Point {manifest.Head.Point} is visible, but the node {id} of its map is not stored.");
        }
        nodes.Add(new PlacedNode(stream.Id, id, new ByteRange(offset, place.Length)));
        var node = copies[0].Bytes[RecordHeader.Size..];
        if (level == 0)
        {
            var leaf = MapLeaf.Parse(node, place);
            for (var i = 0; i < leaf.Count; i++)
            {
                entries.Add(new PlacedEntry(stream.Id, offset, leaf[i]));
                offset += leaf.LengthAt(i);
            }
            return;
        }
        var inner = MapInner.Parse(node, place);
        for (var i = 0; i < inner.Count; i++)
        {
            if (!inner[i].IsZero)
            {
                Walk(manifest, stream, inner[i], level - 1, (index * MapShape.Radix) + i, entries, nodes);
            }
        }
    }

    private void Read(string key, byte[] bytes)
    {
        if (ObjectKeys.TryParsePack(key, out var hash))
        {
            ReadPack(key, hash, bytes);
        }
        else if (ObjectKeys.TryParseManifest(key, out var vm, out var point))
        {
            if (AbortTombstone.IsTombstone(bytes))
            {
                _ = AbortTombstone.Parse(bytes);
                return;
            }
            var manifest = Manifest.Parse(bytes);
            Require(manifest.Head.Vm == vm && manifest.Head.Point == point, key, "is another point's manifest");
            Points.Add(point, manifest);
        }
        else if (ObjectKeys.TryParseVmKey(key, out vm, out var epoch, out var recipient))
        {
            var sealedKey = KeyObject.Parse(bytes);
            Require((sealedKey.Vm, sealedKey.Epoch, sealedKey.Recipient) == (vm, epoch, recipient), key, "is another key object than its name says");
        }
        else if (ObjectKeys.TryParseRestoreKey(key, out var keyId))
        {
            Require(WrappedKey.Parse(bytes).Id == keyId, key, "is another wrapped key than its name says");
        }
        else if (ObjectKeys.TryParseAgent(key, out keyId))
        {
            Require(KeyId.Compute(bytes) == keyId, key, "is another public key than its name says");
        }
        else if (key == ObjectKeys.Format)
        {
            _ = RepositoryHead.Parse(bytes);
        }
        else if (key.StartsWith(ObjectKeys.TrashPrefix, StringComparison.Ordinal))
        {
            ReadTrash(key, bytes);
        }
        else
        {
            Require(ObjectKeys.TryParseOwner(key, out _) || ObjectKeys.TryParseLock(key, out _, out _), key, "has no place in a repository");
        }
    }

    private void ReadTrash(string key, byte[] bytes)
    {
        if (!ObjectKeys.TryParseManifest(key[ObjectKeys.TrashPrefix.Length..], out var vm, out var point))
        {
            Trash.Add(key);
            return;
        }
        var manifest = Manifest.Parse(bytes);
        Require(manifest.Head.Vm == vm && manifest.Head.Point == point, key, "is another point's manifest");
        Forgotten.Add(point, manifest);
    }

    private void ReadPack(string key, Id32 hash, byte[] bytes)
    {
        Require(Id32.Read(SHA256.HashData(bytes)) == hash, key, "does not hash to its name");
        var footer = PackFooter.Parse(bytes, bytes.Length);
        var records = new List<StoredRecord>();
        foreach (ref readonly var entry in footer.Entries)
        {
            var record = bytes.AsMemory((int)entry.Offset, entry.Header.RecordLength);
            Require(RecordHeader.Parse(record.Span) == entry.Header, key, $"has another record at byte {entry.Offset} than its footer says");
            if (entry.Header.Kind == RecordKind.Map)
            {
                NodeId.Require(record.Span[RecordHeader.Size..], entry.Header.Id);
            }
            var stored = new StoredRecord(key, entry, record);
            records.Add(stored);
            if (!_records.TryGetValue((entry.Header.Kind, entry.Header.Id, entry.Header.Scope), out var copies))
            {
                _records.Add((entry.Header.Kind, entry.Header.Id, entry.Header.Scope), copies = []);
            }
            copies.Add(stored);
        }
        Packs.Add(key, records);
    }

    private static void Require(bool condition, string key, string what)
    {
        if (!condition)
        {
            throw new RefutedException($"The object {key} {what}.");
        }
    }
}

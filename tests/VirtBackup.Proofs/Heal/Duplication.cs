using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Proofs.Installation;
using VirtBackup.Repository;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Ingest;

namespace VirtBackup.Proofs.Heal;

/// <summary>Makes a repository that holds what another one holds: the same records under the same names, in other packs.</summary>
internal static class Duplication
{
    /// <summary>Everything that is not a pack, a manifest or a claim, as it is.</summary>
    public static async Task CopyObjectsAsync(Census source, IObjectStore target)
    {
        foreach (var (key, bytes) in source.Objects)
        {
            if (!ObjectKeys.TryParsePack(key, out _) && !ObjectKeys.TryParseManifest(key, out _, out _) && !ObjectKeys.TryParseOwner(key, out _))
            {
                await target.PutAsync(key, bytes, CancellationToken.None);
            }
        }
    }

    /// <summary>All records in an order of their own, then all points.</summary>
    public static async Task FillAsync(Census source, BackupRepository target, Random random)
    {
        var records = source.Packs.Values.SelectMany(pack => pack).ToArray();
        random.Shuffle(records);
        foreach (var points in source.Points.Values.GroupBy(manifest => (manifest.Head.Scope, manifest.Head.IdGeneration)))
        {
            await using var session = target.BeginIngest(points.Key.Scope, points.Key.IdGeneration);
            await SendAsync(session, records.Where(record => record.Entry.Header.Kind == RecordKind.Data && record.Entry.Header.Scope == points.Key.Scope), RecordKind.Data);
            await SendAsync(session, records.Where(record => record.Entry.Header.Kind == RecordKind.Map), RecordKind.Map);
            foreach (var manifest in points.OrderBy(manifest => manifest.Head.Sequence))
            {
                var head = manifest.Head;
                var expected = new CommitExpectation
                {
                    Vm = head.Vm, Lineage = head.Lineage, Point = head.Point, Generation = head.Generation, Attempt = head.Attempt, Sequence = head.Sequence,
                    CreatedMs = head.CreatedMs, PreviousManifest = head.PreviousManifest, BaseManifest = head.BaseManifest, AgentKeyId = head.AgentKeyId,
                };
                await target.CommitAsync(session, manifest.Bytes, expected, KeylessLeafInspector.Instance, CancellationToken.None);
            }
        }
    }

    private static async Task SendAsync(IngestSession session, IEnumerable<StoredRecord> records, RecordKind kind)
    {
        var lane = session.OpenLane(kind);
        foreach (var record in records)
        {
            await lane.AppendAsync(record.Bytes, CancellationToken.None);
        }
        await lane.FlushAsync(CancellationToken.None);
    }
}

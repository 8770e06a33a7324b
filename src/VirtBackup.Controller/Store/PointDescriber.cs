using VirtBackup.Catalog;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Store;

/// <summary>Opens manifests to tell what lists show of their points. Safe for concurrent use.</summary>
public sealed class PointDescriber(BackupRepository repository, IObjectStore store, Keyholder keyholder, CatalogDatabase catalog)
{
    /// <summary>Where forgotten manifests lie.</summary>
    private const string TrashPrefix = ObjectKeys.TrashPrefix;

    /// <summary>Every point of the repository, forgotten ones too.</summary>
    public async ValueTask<IReadOnlyDictionary<Id16, bool>> ListAsync(CancellationToken cancellationToken)
    {
        var points = new Dictionary<Id16, bool>();
        foreach (var forgotten in await repository.ListForgottenAsync(cancellationToken))
        {
            points[forgotten.Point] = true;
        }
        foreach (var point in await repository.ListPointsAsync(null, cancellationToken))
        {
            points[point.Point] = false;
        }
        return points;
    }

    /// <summary>Describes a committed or forgotten point; null: there is none.</summary>
    public async ValueTask<PointRow?> DescribeAsync(Id16 point, CancellationToken cancellationToken)
    {
        string key;
        if (await repository.FindPointAsync(point, cancellationToken) is { } info)
        {
            key = ObjectKeys.Manifest(info.Vm, point);
        }
        else
        {
            var forgotten = (await repository.ListForgottenAsync(cancellationToken)).FirstOrDefault(candidate => candidate.Point == point);
            if (forgotten is null)
            {
                return null;
            }
            key = TrashPrefix + ObjectKeys.Manifest(forgotten.Vm, point);
        }
        var manifest = Manifest.Parse(await store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken));
        return await DescribeAsync(manifest, storedBytes: null, cancellationToken);
    }

    /// <param name="manifest">Committed.</param>
    /// <param name="storedBytes">What its run wrote; null: unknown, taken from the manifest's own statistics.</param>
    /// <param name="cancellationToken">Stops the reading.</param>
    public async ValueTask<PointRow> DescribeAsync(Manifest manifest, long? storedBytes, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(manifest);
        var origin = manifest.Head.Repository == repository.Head.Uuid ? Id16.Empty : manifest.Head.Repository;
        if (!keyholder.Has(manifest.Head.Repository))
        {
            return await DescribeSealedAsync(manifest, origin, storedBytes, cancellationToken);
        }
        using var key = await keyholder.OpenAsync(manifest.Head.Vm, manifest.Head.BodyEpoch, cancellationToken);
        var body = ManifestSealing.Open(manifest, key);
        var basePoint = await FindByHashAsync(manifest.Head, cancellationToken);
        var described = body.Streams.ToDictionary(static stream => Id16.Parse(stream.Id));
        return new PointRow
        {
            PointId = manifest.Head.Point,
            VmId = manifest.Head.Vm,
            VmName = body.VmName,
            Agent = body.AgentName,
            CreatedMs = manifest.Head.CreatedMs,
            Sequence = manifest.Head.Sequence,
            Consistency = (int)manifest.Head.Consistency,
            ConsistencyDetail = body.Quiesce?.Detail ?? "",
            FrozenMs = Math.Max(0, body.Quiesce?.FrozenMs ?? 0),
            State = manifest.Head.Streams.FirstOrDefault(static stream => stream.Kind == StreamKind.RamState) is { Geometry.StreamLength: > 0 and var memory }
                ? new PointStateRow(memory, Math.Max(0, body.State?.StoredBytes ?? 0), Math.Max(0, body.State?.PausedMs ?? 0)) : null,
            LogicalBytes = manifest.Head.Streams.Sum(static stream => stream.Geometry.StreamLength),
            ReadBytes = body.Statistics?.BytesRead ?? 0,
            StoredBytes = storedBytes ?? body.Statistics?.BytesUploaded ?? 0,
            BasePointId = basePoint,
            HypervisorKind = body.HypervisorKind,
            Origin = origin,
            Streams = [.. manifest.Head.Streams.Select(stream => ToRow(stream, described.GetValueOrDefault(stream.Id)))],
        };
    }

    /// <summary>Without keys: what the manifest's head says, and beside it what a peer told or the catalog knew before.</summary>
    private async ValueTask<PointRow> DescribeSealedAsync(Manifest manifest, Id16 origin, long? storedBytes, CancellationToken cancellationToken)
    {
        var head = manifest.Head;
        var told = await catalog.Replication.FindElsewhereAsync(head.Point, cancellationToken);
        return new PointRow
        {
            PointId = head.Point,
            VmId = head.Vm,
            VmName = await catalog.Replication.FindMachineNameAsync(head.Vm, cancellationToken) ?? head.Vm.ToString(),
            Agent = told?.Row.Agent ?? "",
            CreatedMs = head.CreatedMs,
            Sequence = head.Sequence,
            Consistency = (int)head.Consistency,
            ConsistencyDetail = told?.Row.ConsistencyDetail ?? "",
            LogicalBytes = head.Streams.Sum(static stream => stream.Geometry.StreamLength),
            StoredBytes = storedBytes ?? 0,
            BasePointId = await FindByHashAsync(head, cancellationToken),
            HypervisorKind = told?.Row.HypervisorKind ?? "",
            Origin = origin,
            Peer = told?.Peer ?? "",
            Sealed = true,
            Streams = [.. head.Streams.Select(static stream => ToRow(stream, null))],
        };
    }

    private async ValueTask<Id16> FindByHashAsync(ManifestHead head, CancellationToken cancellationToken)
    {
        if (head.BaseManifest.IsZero)
        {
            return Id16.Empty;
        }
        var points = await repository.ListPointsAsync(head.Vm, cancellationToken);
        return points.FirstOrDefault(point => point.ManifestHash == head.BaseManifest)?.Point ?? Id16.Empty;
    }

    private static PointStreamRow ToRow(ManifestStream stream, StreamDescription? description) => new(
        stream.Id.ToString(), description?.Name ?? "", KindName(stream.Kind), stream.Geometry.StreamLength, description?.Format ?? "", description?.ReadBytes ?? 0, description?.ReadReason ?? "");

    private static string KindName(StreamKind kind) => kind switch
    {
        StreamKind.Disk => "disk",
        StreamKind.NativeConfiguration => "native-configuration",
        StreamKind.Nvram => "nvram",
        StreamKind.Tpm => "tpm",
        StreamKind.RamState => "memory",
        _ => "device-state",
    };
}

using VirtBackup.Cli.Output;
using VirtBackup.CloudStores;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Identity;
using VirtBackup.Repository;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Reading;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Offline.Extraction;

/// <summary>
/// Gets recovery points out of a repository with nothing but its objects and the recovery kit: no controller, no catalog, no
/// index. Nothing is written to the repository; a controller may use it meanwhile.
/// </summary>
internal sealed class RepositoryExtraction : IAsyncDisposable
{
    private readonly OpenStore _store;
    private readonly string _scratchFolder;
    private readonly SqliteDatabase _scratch;
    private readonly StoredRepository _repository;
    private readonly EscrowKeys _escrow;
    private readonly Keyholder _keyholder;
    private readonly OpenedKeys _vmKeys;

    private RepositoryExtraction(OpenStore store, string scratchFolder, SqliteDatabase scratch, StoredRepository repository, EscrowKeys escrow)
    {
        (_store, _scratchFolder, _scratch, _repository, _escrow) = (store, scratchFolder, scratch, repository, escrow);
        _keyholder = new Keyholder(store.Store, escrow, repository.Head.Uuid);
        _vmKeys = new OpenedKeys(_keyholder);
    }

    /// <summary>Packs that cannot be read; what lies in them is missed only by what needs it.</summary>
    public IReadOnlyList<Repository.Rebuilding.ObjectProblem> Problems => _repository.Problems;

    /// <exception cref="CommandFault">There is no repository, or the kit is another repository's.</exception>
    public static async Task<RepositoryExtraction> OpenAsync(StoreLocation location, RecoveryKit kit, CliContext context, ProgressLine progress, CancellationToken cancellationToken)
    {
        var opened = StoreOpener.OpenForReading(location);
        var store = opened.Store;
        var scratchFolder = Directory.CreateTempSubdirectory("virtbackup-extract-").FullName;
        SqliteDatabase? scratch = null;
        EscrowKeys? escrow = null;
        try
        {
            var head = await ReadHeadAsync(store, location, cancellationToken);
            if (head.Uuid != kit.Repository)
            {
                throw new CommandFault(ExitCode.Refused, $"The kit belongs to repository {kit.Repository}; '{location.Text}' holds {head.Uuid}.", "take the kit of this repository, or mount the kit's repository");
            }
            var wrapped = WrappedKey.Parse(await store.ReadAllAsync(ObjectKeys.RestoreKey(KeyId.Compute(head.RestoreKey)), WrappedKey.BytesMax, cancellationToken));
            var root = RootSecret.FromBytes(kit.RootSecret);
            escrow = new EscrowKeys(root, Keyring.Unwrap(wrapped, root));
            scratch = SqliteDatabase.Open(
                Path.Combine(scratchFolder, "index.db"), RepositoryIndex.Schema, new SqliteOptions { DurableCommits = false, CacheKibibytes = 16 << 10 });
            var repository = await StoredRepository.OpenAsync(store, scratch, context.Time, new Teller(progress), cancellationToken);
            return new RepositoryExtraction(opened, scratchFolder, scratch, repository, escrow);
        }
        catch
        {
            escrow?.Dispose();
            if (scratch is not null)
            {
                await scratch.DisposeAsync();
            }
            Directory.Delete(scratchFolder, recursive: true);
            await opened.DisposeAsync();
            throw;
        }
    }

    /// <summary>All points, the oldest of a machine first; a point that cannot be opened says why.</summary>
    public async Task<List<ExtractablePoint>> ListAsync(CancellationToken cancellationToken)
    {
        var points = new List<ExtractablePoint>();
        await foreach (var stored in _repository.ListAsync(cancellationToken))
        {
            if (stored.Manifest is not { } manifest)
            {
                points.Add(new ExtractablePoint(null, null, stored.IsForgotten, $"{stored.ObjectKey}: {stored.Problem}"));
                continue;
            }
            try
            {
                points.Add(new ExtractablePoint(manifest, await OpenBodyAsync(manifest, cancellationToken), stored.IsForgotten, null));
            }
            catch (FaultException fault)
            {
                points.Add(new ExtractablePoint(manifest, null, stored.IsForgotten, fault.Message));
            }
        }
        return [.. points.OrderBy(static point => point.Body?.VmName, StringComparer.Ordinal).ThenBy(static point => point.Manifest?.Head.Vm).ThenBy(static point => point.Manifest?.Head.Sequence)];
    }

    /// <summary>Writes the point's disks, and what describes the machine, into a folder that is new or empty.</summary>
    /// <param name="point">One that can be opened.</param>
    /// <param name="folder">Absolute.</param>
    /// <param name="disks">Names of the disks to write; empty: all.</param>
    /// <param name="progress">Told how it goes on.</param>
    /// <param name="cancellationToken">Stops it; disks that are not whole are removed.</param>
    public async Task<List<(string Path, long Bytes)>> ExtractAsync(
        ExtractablePoint point, string folder, IReadOnlyCollection<string> disks, ProgressLine progress, CancellationToken cancellationToken)
    {
        var (manifest, body) = (point.Manifest!, point.Body!);
        var wanted = body.Streams.Where(stream => disks.Count == 0 || disks.Contains(stream.Name)).ToDictionary(static stream => Id16.Parse(stream.Id));
        if (disks.FirstOrDefault(name => !body.Streams.Any(stream => stream.Name == name)) is { } unknown)
        {
            throw new CommandFault(ExitCode.NotFound, $"The recovery point has no disk '{unknown}'.", $"choose from: {string.Join(", ", body.Streams.Select(static stream => stream.Name))}");
        }
        var written = new List<(string, long)>();
        using var idKey = _keyholder.DeriveIdKey(manifest.Head.Scope, manifest.Head.IdGeneration);
        using var ring = new ChunkKeyRing([idKey]);
        var vmKeys = new Dictionary<Id16, VmKey>();
        foreach (var epoch in manifest.Head.Epochs)
        {
            vmKeys.Add(epoch, await _vmKeys.GetAsync(manifest.Head.Vm, epoch, cancellationToken));
        }
        var names = new HashSet<string>(StringComparer.Ordinal);
        var done = 0L;
        foreach (var stream in manifest.Head.Streams.Where(stream => stream.Kind == StreamKind.Disk && wanted.ContainsKey(stream.Id)))
        {
            var path = Path.Combine(folder, FileNameOf(wanted[stream.Id].Name, names));
            using var target = ExtractedDisk.Create(path, stream.Geometry.StreamLength);
            var extraction = new DiskExtraction(_repository.Open(manifest), stream, ring, vmKeys, bytes =>
            {
                done += bytes;
                progress.Show(() => $"extracting {Path.GetFileName(path)}: {Units.Bytes((ulong)done)} written, {Units.Rate(done / progress.Elapsed.TotalSeconds)}");
            });
            await extraction.RunAsync(target, cancellationToken);
            target.Finish();
            written.Add((path, stream.Geometry.StreamLength));
        }
        await WriteDescriptionAsync(body, folder, cancellationToken);
        return written;
    }

    public async ValueTask DisposeAsync()
    {
        _vmKeys.Dispose();
        _keyholder.Dispose();
        _escrow.Dispose();
        await _scratch.DisposeAsync();
        Directory.Delete(_scratchFolder, recursive: true);
        await _store.DisposeAsync();
    }

    private static async Task<RepositoryHead> ReadHeadAsync(IObjectStore store, StoreLocation location, CancellationToken cancellationToken)
    {
        try
        {
            return await BackupRepository.ReadHeadAsync(store, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
        {
            throw new CommandFault(ExitCode.NotFound, $"There is no repository in '{location.Text}'.", "give the repository's own folder or address, and check that its disk is mounted", fault);
        }
    }

    private async Task<ManifestBody> OpenBodyAsync(Manifest manifest, CancellationToken cancellationToken)
    {
        await new KeptSignatures(_store.Store).VerifyAsync(manifest, cancellationToken);
        return ManifestSealing.Open(manifest, await _vmKeys.GetAsync(manifest.Head.Vm, manifest.Head.BodyEpoch, cancellationToken));
    }

    /// <summary>A disk's name comes from the machine's configuration: it must not lead out of the folder.</summary>
    private static string FileNameOf(string disk, HashSet<string> names)
    {
        var plain = string.Concat(disk.Select(static letter => char.IsAsciiLetterOrDigit(letter) || letter is '-' or '_' or '.' ? letter : '_')).TrimStart('.');
        var name = plain.Length == 0 ? "disk" : plain;
        for (var i = 2; !names.Add(name); i++)
        {
            name = $"{plain}-{i}";
        }
        return name + ".raw";
    }

    private static async Task WriteDescriptionAsync(ManifestBody body, string folder, CancellationToken cancellationToken)
    {
        await File.WriteAllBytesAsync(Path.Combine(folder, "machine.json"), body.ToBytes(), cancellationToken);
        if (body.Native is { } native)
        {
            await File.WriteAllBytesAsync(Path.Combine(folder, "native-configuration"), native.Content, cancellationToken);
        }
    }

    private sealed class Teller(ProgressLine line) : IProgress<RebuildProgress>
    {
        public void Report(RebuildProgress value) => line.Show(() => $"reading tables of contents: {Units.Count((ulong)value.Packs)} packs, {Units.Count((ulong)value.Records)} records");
    }
}

/// <summary>A recovery point that may be extracted.</summary>
/// <param name="Manifest">Null: it cannot be read.</param>
/// <param name="Body">Null: it cannot be opened.</param>
/// <param name="IsForgotten">It was forgotten and not purged yet.</param>
/// <param name="Problem">Why it cannot be extracted.</param>
internal sealed record ExtractablePoint(Manifest? Manifest, ManifestBody? Body, bool IsForgotten, string? Problem);

using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.ObjectStores;
using VirtBackup.Proofs.FlipBytes;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Heal;

/// <summary>One pair of repositories: the first made by the real roles, the second of its records.</summary>
internal sealed class HealRun : IAsyncDisposable
{
    public static readonly (string Name, string What)[] Defects =
    [
        (TwinSource.CorruptCopy, "what the other repository hands out is damaged, and nobody opens it before it is stored"),
        (TwinSource.OtherRecord, "the other repository hands out another record than the one that was asked for"),
        (TwinSource.WholePack, "the other repository is read by whole packs"),
        (InBoth, "one chunk is damaged in both"),
    ];

    private const string InBoth = "in-both";
    private const int DamagedOneIn = 100;

    private readonly ProofOptions _options;
    private readonly HealFigures _figures;
    private readonly Random _random;
    private readonly SeededEntropy _entropy;
    private readonly string _folder;
    private readonly LocalFolderStore[] _stores;
    private readonly Site _site;
    private readonly Host _host;

    public HealRun(SingleThread thread, ProofOptions options, int trial, HealFigures figures)
    {
        (_options, _figures) = (options, figures);
        _random = options.RandomOf(trial, 0);
        _entropy = new SeededEntropy(_random.Next());
        _folder = Path.Combine(options.Work, $"virtbackup-heal-{Environment.ProcessId}-{trial}");
        _stores = [OpenStore("a"), OpenStore("b")];
        _site = new Site(_entropy, thread.Clock, PackBytes());
        var shape = MapShape.Of(Chunker.Fixed, (byte)(options.Short ? MapShape.ChunkLog2Min : MapShape.ChunkLog2Min + _random.Next(4)));
        _host = new Host(_site, _entropy, thread.Clock, new HostOptions { Shape = shape });
        var unit = (options.Short ? 1 : 4) * DiskContent.Chunk;
        // Of the second machine a part is the first one's.
        var (first, second) = (Disk(20 * unit), Disk(12 * unit));
        first.AsSpan(0, 2 * unit).CopyTo(second);
        _host.AddMachine(first);
        _host.AddMachine(second, Disk(2 * unit));
    }

    public async Task RunAsync()
    {
        await BackUpAsync();
        var census = await Census.TakeAsync(_stores[0]);
        await Duplication.CopyObjectsAsync(census, _stores[1]);
        await using var a = await Twin.OpenAsync("A", PathOf("a"), _stores[0], _site, _entropy, PackBytes());
        await using var b = await Twin.OpenAsync("B", PathOf("b"), _stores[1], _site, _entropy, PackBytes());
        await Duplication.FillAsync(census, b.Repository, _random);
        await a.RequireVerifiedAsync(census.Points.Count);
        await b.RequireVerifiedAsync(census.Points.Count);
        foreach (var kind in new[] { RecordKind.Data, RecordKind.Map })
        {
            await HurtAndHealAsync(a, b, kind, census.Points.Count);
        }
    }

    public async ValueTask DisposeAsync()
    {
        _host.Dispose();
        await _site.DisposeAsync();
        foreach (var store in _stores)
        {
            store.Dispose();
        }
        Directory.Delete(_folder, recursive: true);
    }

    private async Task HurtAndHealAsync(Twin a, Twin b, RecordKind kind, int points)
    {
        var (censusA, censusB) = (await Census.TakeAsync(_stores[0]), await Census.TakeAsync(_stores[1]));
        var all = censusA.Packs.Values.SelectMany(pack => pack).Count(record => record.Entry.Header.Kind == kind);
        var count = Math.Max(2, all / DamagedOneIn);
        var woundsA = Wounds.Inflict(censusA, a.Folder, kind, count, new HashSet<Id32>(), _random, null);
        Id32? shared = _options.Sabotage == InBoth ? woundsA.Records.Keys.First() : null;
        var woundsB = Wounds.Inflict(censusB, b.Folder, kind, count, woundsA.Records.Keys.ToHashSet(), _random, shared);
        _figures.Chunks += kind == RecordKind.Data ? 2 * all : 0;
        await ScrubAsync(a, woundsA);
        await ScrubAsync(b, woundsB);
        await HealAsync(a, b, woundsA);
        await HealAsync(b, a, woundsB);
        await a.RequireVerifiedAsync(points);
        await b.RequireVerifiedAsync(points);
        await RequireEqualAsync(a, _stores[0]);
        await RequireEqualAsync(b, _stores[1]);
        (_figures.DamagedChunks, _figures.DamagedNodes) =
            kind == RecordKind.Data ? (_figures.DamagedChunks + (2 * count), _figures.DamagedNodes) : (_figures.DamagedChunks, _figures.DamagedNodes + (2 * count));
    }

    /// <summary>Everything that was damaged is found, and nothing else.</summary>
    private async Task ScrubAsync(Twin twin, Wounds wounds)
    {
        var report = await twin.ScrubAsync();
        var (lost, doubtful, covered) = (report.Findings.Sum(found => found.RecordsLost), report.Findings.Sum(found => found.RecordsDoubtful), report.Findings.Sum(found => found.RecordsCovered));
        if (!report.IsDone || report.Problems.Count > 0 || report.DamageCount != wounds.Packs || (lost, doubtful, covered) != (wounds.Records.Count, 0, 0))
        {
            throw new RefutedException(
                $"In {twin.Name} {wounds.Records.Count} records of {wounds.Packs} packs are damaged; the scrub found {report.DamageCount} packs, {lost} records lost, "
                + $"{doubtful} in doubt, {covered} that have another copy. {string.Join(" ", report.Problems.Take(2))}");
        }
    }

    private async Task HealAsync(Twin twin, Twin other, Wounds wounds)
    {
        var source = new TwinSource(other, _options.Sabotage);
        other.Store.Take();
        var opener = _options.Sabotage == TwinSource.CorruptCopy ? new NoChunkCheck() : twin.Opener;
        var report = await twin.Repository.Upkeep.HealAsync([source], opener, CancellationToken.None);
        var moved = other.Store.Take().Values.Sum(read => read.Bytes);
        _figures.Add(wounds);
        _figures.MovedBytes += moved;
        if (report.Missing > 0 || report.Healed.Count != wounds.Records.Count || !report.Healed.All(healed => wounds.Records.ContainsKey(healed.Record.Id)))
        {
            throw new RefutedException($"Of {wounds.Records.Count} damaged records of {twin.Name} {report.Healed.Count} were healed, {report.Missing} were not.");
        }
        if (moved > wounds.Bytes || source.Asked.Count != wounds.Records.Count)
        {
            throw new RefutedException($"Healing {twin.Name} moved {moved} bytes for {source.Asked.Count} records; {wounds.Records.Count} records of {wounds.Bytes} bytes were damaged.");
        }
    }

    /// <summary>Once what is damaged has left the store, everything in it is sound, and every byte of every point is the machine's.</summary>
    private async Task RequireEqualAsync(Twin twin, LocalFolderStore store)
    {
        await twin.CollectAsync();
        var census = await Census.TakeAsync(store);
        using var proven = new ProvenObjects();
        foreach (var (point, (_, disks)) in _host.Sources)
        {
            var manifest = census.Points.GetValueOrDefault(point) ?? throw new RefutedException($"{twin.Name} lacks point {point}.");
            census.RequirePoint(manifest, _site.Escrow, disks, proven);
        }
    }

    private async Task BackUpAsync()
    {
        await _site.InitializeAsync(_stores[0]);
        await _site.BootAsync(_stores[0], new Power(), false, false);
        await _host.EnrollAsync();
        foreach (var round in new[] { 0, 1 })
        {
            foreach (var machine in _host.Machines)
            {
                if (round > 0)
                {
                    var data = new byte[_random.Next(1, DiskContent.Chunk)];
                    _random.NextBytes(data);
                    machine.Disks[0].Write(_random.Next(machine.Disks[0].Content.Length - data.Length), data);
                }
                await _host.BackUpAsync(machine, CancellationToken.None);
            }
        }
    }

    private byte[] Disk(int length) => DiskContent.Create(_random, length, length / DiskContent.Chunk);

    /// <summary>A few dozen records, so that there are many packs, and some that can be lost as a whole.</summary>
    private int PackBytes() => _random.Next(48 << 10, 192 << 10) * (_options.Short ? 1 : 4);

    private string PathOf(string name) => Path.Combine(_folder, name);

    private LocalFolderStore OpenStore(string name)
    {
        Directory.CreateDirectory(PathOf(name));
        return LocalFolderStore.Open(PathOf(name));
    }
}

using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Proofs.CrashSimulation;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Repository;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Replication;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Sealing;
using VirtBackup.Testing.Proofs;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.Peers;

/// <summary>
/// Another repository, on a machine with a power of its own, that pulls recovery points, forgets and collects. What it was told and
/// what its store holds must agree, whatever happens to either side.
/// </summary>
internal sealed class Peer(Site site, IReadOnlyList<Host> hosts, ProvenObjects proven, IEntropy entropy, int packBytes, Coverage coverage) : IAsyncDisposable
{
    private readonly List<SqliteDatabase> _taken = [];
    private readonly Dictionary<Id16, bool> _mustBeVisible = [];
    private readonly Dictionary<string, byte[]?> _damaged = new(StringComparer.Ordinal);
    private SimulatedStore _store = new();
    private Power _power = new();
    private SqliteDatabase? _index;

    /// <summary>Plants a defect between the repository and its index.</summary>
    public Func<IDatabase, IDatabase> AlterIndex { get; init; } = static index => index;

    /// <summary>Plants a defect between the repository and its store.</summary>
    public Func<IObjectStore, IObjectStore> AlterStore { get; init; } = static store => store;

    public BackupRepository Repository { get; private set; } = null!;

    public Power Power => _power;

    /// <summary>How points are pulled.</summary>
    public ReplicaOptions Options { get; } = new()
    {
        Verify = (manifest, key, _) =>
        {
            proven.RequireSignature(manifest, key.ToArray());
            return ValueTask.CompletedTask;
        },
    };

    /// <summary>Makes an empty repository.</summary>
    public async Task InitializeAsync()
    {
        var restoreKey = site.Escrow.RestoreKey;
        var head = new RepositoryHead { Uuid = Id16.Create(entropy), Created = site.Time.GetUtcNow(), RestoreKey = restoreKey.Public.SubjectPublicKeyInfo.ToArray() };
        await RepositoryInitializer.InitializeAsync(_store, head, Keyring.Wrap(restoreKey, site.Escrow.Root, entropy).ToBytes(), CancellationToken.None);
        await StartAsync(power => _store.Kill(OptionsOf(power)), loseIndex: true);
    }

    /// <summary>The power fails before that operation from now.</summary>
    public void Arm(long operations) => _power.FailsAt = _power.Operations + operations;

    /// <summary>The power returns: what the store holds is right at once, and the repository opens on it.</summary>
    /// <param name="seed">What becomes of everything that was not flushed; null: only the process died.</param>
    /// <param name="loseIndex">The index is gone.</param>
    public async Task SurviveAsync(int? seed, bool loseIndex)
    {
        await StartAsync(power => seed is { } chance ? _store.Crash(chance, OptionsOf(power)) : _store.Kill(OptionsOf(power)), loseIndex, RequireAsync);
        if (Repository.OpenReport.ProblemCount > 0)
        {
            throw new RefutedException($"After a crash the peer's repository is damaged: {Repository.OpenReport.Problems[0]}");
        }
        await RequireIndexAsync(await RequireAsync(), exactly: false);
    }

    /// <summary>Pulls a point.</summary>
    public async Task PullAsync(IReplicaSource source, Id16 vm, Id16 point)
    {
        var known = _mustBeVisible.Remove(point, out var isVisible) && isVisible;
        var report = await Repository.PullAsync(source, new ReplicaWish(vm, point), Options, CancellationToken.None);
        if (known != report.WasHere)
        {
            throw new RefutedException($"Point {point} was {(known ? "" : "not ")}at the peer before, which says otherwise.");
        }
        _mustBeVisible[point] = true;
        coverage.Count("replicated:points");
        coverage.Count("replicated:nodes", report.Done.Nodes);
        coverage.Count("replicated:records", report.Done.Records);
        coverage.Count("replicated:bytes", report.Done.ReceivedBytes);
    }

    public async Task ForgetAsync(Id16 point)
    {
        _mustBeVisible.Remove(point);
        await Repository.ForgetAsync(point, CancellationToken.None);
        _mustBeVisible[point] = false;
    }

    public async Task RecallAsync(Id16 vm, Id16 point)
    {
        _mustBeVisible.Remove(point);
        await Repository.RecallAsync(vm, point, CancellationToken.None);
        _mustBeVisible[point] = true;
    }

    public async Task CollectAsync()
    {
        var report = await Repository.CollectAsync(new CollectionOptions(), CancellationToken.None);
        if ((report.Problems is [var first, ..] ? first : report.Audit?.Problem) is { } problem)
        {
            throw new RefutedException($"The peer's collector finds something wrong in a sound repository: {problem}");
        }
    }

    /// <summary>
    /// The device goes bad under one pack. A scrub, which has no keys here, takes out of use what is lost or in doubt; pulled once more, all
    /// points are whole.
    /// </summary>
    /// <param name="there">Points of which the source has all. Where the peer has others, whose damage nobody heals, nothing happens.</param>
    /// <param name="pullAgain">Pulls all of them.</param>
    public async Task HarmAsync(Random random, IReadOnlySet<Id16> there, Func<Task> pullAgain)
    {
        var whole = await Census.TakeAsync(_store);
        if (whole.Points.Keys.Concat(whole.Forgotten.Keys).Any(point => !there.Contains(point)))
        {
            return;
        }
        if (Rot.Plant(random, _store, whole, IndexLines.Located(await IndexDump.WriteAsync(_index!, CancellationToken.None)), mayLose: true) is not { } rot)
        {
            return;
        }
        coverage.Count("replicated:rot");
        await ScrubAsync();
        coverage.Count("replicated:points-damaged", (await Repository.ListPointsAsync(null, CancellationToken.None)).Count(static point => !point.IsComplete));
        await pullAgain();
        if (IndexLines.Packs(await IndexDump.WriteAsync(_index!, CancellationToken.None)).Contains(rot.Key))
        {
            // What no point of the source needs stays in doubt, until the device gives it out right.
            _store.Rot(rot.Key, _ => rot.Original);
            await ScrubAsync();
        }
        else
        {
            _damaged[rot.Key] = null;
        }
        try
        {
            await RequireSoundAsync();
        }
        catch (RefutedException refuted)
        {
            throw new RefutedException($"After {rot.What} at the peer, and all was pulled again: {refuted.Message}");
        }
    }

    /// <summary>Proves that all of a point is in the census, and what its machine held.</summary>
    public void RequireWhole(Census census, Manifest manifest)
    {
        var host = hosts.FirstOrDefault(host => host.Sources.ContainsKey(manifest.Head.Point))
            ?? throw new RefutedException($"Nobody has begun point {manifest.Head.Point}, but it is at the peer.");
        census.RequirePoint(manifest, site.Escrow, host.Sources[manifest.Head.Point].Disks, proven);
    }

    private async Task ScrubAsync()
    {
        // What was proven in the same millisecond is not read again.
        site.Calendar.Pass(TimeSpan.FromSeconds(1));
        await Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = site.Calendar.NowMs }, CancellationToken.None);
    }

    /// <summary>Proves that all that was promised is there, and that the index knows it.</summary>
    public async Task RequireSoundAsync() => await RequireIndexAsync(await RequireAsync(), exactly: false);

    /// <summary>With nothing else going on, all that no visible point needs leaves the store, and the index says what one made anew says.</summary>
    public async Task RequireCleanAsync(TimeSpan longestSafety, TimeSpan day, int collections)
    {
        site.Calendar.Pass(longestSafety);
        for (; collections > 0; collections--)
        {
            await CollectAsync();
            site.Calendar.Pass(day);
        }
        var census = await RequireAsync();
        await RequireIndexAsync(census, exactly: true);
        Cleanness.RequireNothingUnneeded(census, References.Of(census), new CollectionOptions().RepackDeadPercent);
        var dump = await IndexDump.WriteAsync(_index!, CancellationToken.None);
        await StartAsync(power => _store.Kill(OptionsOf(power)), loseIndex: true);
        Cleanness.RequireEqual(dump, await IndexDump.WriteAsync(_index!, CancellationToken.None));
    }

    public async ValueTask DisposeAsync()
    {
        _power.TurnOff();
        foreach (var database in _taken)
        {
            await SpareDatabases.GiveBackAsync(database, RepositoryIndex.Schema);
        }
    }

    private async Task StartAsync(Func<Power, SimulatedStore> next, bool loseIndex, Func<Task>? check = null)
    {
        _power.TurnOff();
        var power = new Power { Passed = () => coverage.Operation(Stage.Now), Failed = () => coverage.Crash(Stage.Now) };
        (_power, _store) = (power, next(power));
        if (check is not null)
        {
            await check();
        }
        if (loseIndex || _index is null)
        {
            _taken.Add(_index = await SpareDatabases.TakeAsync(RepositoryIndex.Schema));
        }
        Repository = await BackupRepository.OpenAsync(
            AlterStore(_store), AlterIndex(new PoweredDatabase(_index, power)), new RepositoryOptions { PackBytesTarget = packBytes }, site.Calendar, entropy, CancellationToken.None);
    }

    private async Task<Census> RequireAsync()
    {
        if (_damaged.Keys.FirstOrDefault() is { } damaged && await _store.FindAsync(damaged, CancellationToken.None) is null)
        {
            // A pack that is stored from now on under its name is another one.
            _damaged.Clear();
        }
        var census = await Census.TakeAsync(_store, _damaged);
        foreach (var (point, isVisible) in _mustBeVisible)
        {
            if (census.Points.ContainsKey(point) != isVisible)
            {
                throw new RefutedException($"Point {point} must {(isVisible ? "" : "not ")}be visible at the peer.");
            }
        }
        foreach (var manifest in census.Points.Values.Concat(census.Forgotten.Values))
        {
            RequireWhole(census, manifest);
        }
        foreach (var point in census.Points.Keys)
        {
            _mustBeVisible[point] = true;
        }
        return census;
    }

    private async Task RequireIndexAsync(Census census, bool exactly)
    {
        var points = await Repository.ListPointsAsync(null, CancellationToken.None);
        if (!census.Points.Keys.Order().SequenceEqual(points.Select(point => point.Point).Order()))
        {
            throw new RefutedException("The peer's index knows other points than its store holds.");
        }
        if (points.FirstOrDefault(static point => !point.IsComplete) is { } damaged)
        {
            throw new RefutedException($"The peer lists point {damaged.Point}, which lacks something.");
        }
        References.Of(census).RequireCounted(await IndexDump.WriteAsync(_index!, CancellationToken.None), exactly);
    }

    private static SimulatedStoreOptions OptionsOf(Power power) => new() { Inject = power.Before };
}

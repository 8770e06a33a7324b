using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.ObjectStores;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Repository;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Repository.Verification;
using VirtBackup.Sealing;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Heal;

/// <summary>One of two repositories that hold the same records: a folder, an index in a file, and the keys to both.</summary>
internal sealed class Twin : IAsyncDisposable
{
    private readonly Calendar _calendar;
    private readonly SqliteDatabase _index;
    private readonly Keyholder _keyholder;
    private readonly EscrowedChunkOpener _opener;

    private Twin(string name, string folder, CountingStore store, SqliteDatabase index, Calendar calendar, BackupRepository repository, EscrowKeys escrow)
    {
        (Name, Folder, Store, _index, _calendar, Repository) = (name, folder, store, index, calendar, repository);
        _keyholder = new Keyholder(store, escrow, repository.Head.Uuid);
        _opener = new EscrowedChunkOpener(_keyholder, repository.Head);
    }

    public string Name { get; }

    /// <summary>Where its objects are files.</summary>
    public string Folder { get; }

    public CountingStore Store { get; }

    public BackupRepository Repository { get; }

    public IChunkOpener Opener => _opener;

    public IDatabase Index => _index;

    public static async Task<Twin> OpenAsync(string name, string folder, LocalFolderStore store, Site site, IEntropy entropy, int packBytes)
    {
        var counting = new CountingStore(store);
        var index = SqliteDatabase.Open($"{folder}.sqlite", RepositoryIndex.Schema);
        var options = new RepositoryOptions { PackBytesTarget = packBytes };
        var repository = await BackupRepository.OpenAsync(counting, index, options, site.Calendar, entropy, CancellationToken.None);
        return new Twin(name, folder, counting, index, site.Calendar, repository, site.Escrow);
    }

    /// <summary>Reads every pack, with keys.</summary>
    public ValueTask<ScrubReport> ScrubAsync()
    {
        _calendar.Pass(TimeSpan.FromHours(1));
        return Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = _calendar.NowMs, Opener = _opener }, CancellationToken.None);
    }

    /// <summary>All of it is verified with keys, every point is whole, and the counts are those of an audit.</summary>
    /// <exception cref="RefutedException">It is not so.</exception>
    public async Task RequireVerifiedAsync(int points)
    {
        var report = await Repository.VerifyAsync(new VerificationOptions { Signatures = new KeptSignatures(Store), Opener = _opener }, CancellationToken.None);
        if (!report.IsSound || report.Points != points)
        {
            throw new RefutedException($"{Name} is not verified: {report.Points} of {points} points, {report.DamageCount} damages: {string.Join(" ", report.Damages.Take(2).Select(damage => $"{damage.ObjectKey}: {damage.Problem}"))}");
        }
        if ((await Repository.Upkeep.ListDamagedPointsAsync(CancellationToken.None)).Count > 0)
        {
            throw new RefutedException($"{Name} verifies, but has points that it does not call whole.");
        }
        if (await ScrubAsync() is { DamageCount: > 0 } scrubbed)
        {
            throw new RefutedException($"{Name} was verified, but a scrub finds damage: {string.Join(" ", scrubbed.Findings.Take(2))} {string.Join(" ", scrubbed.Problems.Take(2))}");
        }
        var audit = await Repository.AuditAsync(CancellationToken.None);
        if (!audit.IsSound || audit.CountedTooOften > 0)
        {
            throw new RefutedException($"The counts of {Name} are wrong: {audit.Problem ?? $"{audit.CountedTooOften} are too high"}");
        }
    }

    /// <summary>Collects until nothing more can go.</summary>
    public async Task CollectAsync()
    {
        for (var day = 0; day < 3; day++)
        {
            _calendar.Pass(TimeSpan.FromHours(25));
            await Repository.CollectAsync(new CollectionOptions(), CancellationToken.None);
        }
    }

    public async ValueTask DisposeAsync()
    {
        _opener.Dispose();
        _keyholder.Dispose();
        await Repository.DisposeAsync();
        await _index.DisposeAsync();
    }
}

using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.ObjectStores;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ScrubSpeed;

/// <summary>A repository in a folder, made by the real roles: one full backup, then incremental ones, each of scattered changes.</summary>
internal sealed class AgedRepository : IAsyncDisposable
{
    public const int Incrementals = 100;

    private const int ChangedOneIn = 100;

    private readonly Random _random;
    private readonly LocalFolderStore _store;
    private readonly Site _site;
    private readonly Host _host;
    private readonly FakeHypervisor _machine;
    private CountingStore _counting = null!;
    private Id16 _last;

    public AgedRepository(SingleThread thread, ProofOptions options, int trial, string folder, int diskBytes)
    {
        _random = options.RandomOf(trial, 0);
        var entropy = new SeededEntropy(_random.Next());
        Directory.CreateDirectory(folder);
        _store = LocalFolderStore.Open(folder);
        _site = new Site(entropy, thread.Clock, Limits.PackBytesTarget)
        {
            AlterStore = store =>
            {
                _counting = new CountingStore(store);
                return options.Sabotage == ScrubSpeedProof.SmallReads ? new SmallReads(_counting) : _counting;
            },
        };
        _host = new Host(_site, entropy, thread.Clock, new HostOptions { IsWitnessed = false });
        // Noise: records are as long as they can be, and it is compressed and sealed the fastest.
        var disk = new byte[diskBytes];
        _random.NextBytes(disk);
        _machine = _host.AddMachine(disk);
    }

    public async Task AgeAsync(CancellationToken cancellationToken)
    {
        await _site.InitializeAsync(_store);
        await _site.BootAsync(_store, new Power(), false, false);
        await _host.EnrollAsync();
        for (var run = 0; run <= Incrementals; run++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (run > 0)
            {
                Change();
            }
            _last = await _host.BackUpAsync(_machine, cancellationToken);
        }
    }

    /// <summary>Restores the last point, whole.</summary>
    /// <returns>What was read of each object.</returns>
    public async Task<IReadOnlyDictionary<string, ReadCount>> RestoreAsync()
    {
        _counting.Take();
        var outcome = await _host.RestoreAsync(_machine, _last);
        var reads = _counting.Take();
        outcome.RequireTrue(_last, _machine.Disks.ToDictionary(disk => disk.Summary.Id, disk => disk.Content));
        return outcome.Failure is { } failure ? throw new RefutedException($"The restore failed: {failure.Message}") : reads;
    }

    public async ValueTask DisposeAsync()
    {
        _host.Dispose();
        await _site.DisposeAsync();
        _store.Dispose();
    }

    /// <summary>A guest writes a block of a hundredth of the chunks.</summary>
    private void Change()
    {
        var disk = _machine.Disks[0];
        var chunks = Enumerable.Range(0, disk.Content.Length / DiskContent.Chunk).ToArray();
        _random.Shuffle(chunks);
        foreach (var chunk in chunks.Take(Math.Max(1, chunks.Length / ChangedOneIn)))
        {
            var block = new byte[FakeDisk.Block];
            _random.NextBytes(block);
            disk.Write(((long)chunk * DiskContent.Chunk) + (_random.Next(DiskContent.Chunk / FakeDisk.Block) * FakeDisk.Block), block);
        }
    }
}

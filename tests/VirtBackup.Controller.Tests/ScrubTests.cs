using Microsoft.Extensions.Logging.Abstractions;
using VirtBackup.Controller.Scrubbing;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Controller.Tests;

public sealed class ScrubTests : IAsyncLifetime
{
    private CancellationTokenSource _stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
    private World _world = null!;
    private Func<SimulatedOperation, FaultReason?>? _inject;
    private TestAgent _agent = null!;
    private Task _running = Task.CompletedTask;

    public async ValueTask InitializeAsync()
    {
        _world = await World.CreateAsync(operation => _inject?.Invoke(operation));
        _agent = await _world.EnrollAsync();
        _running = _world.Role.RunAsync(_stop.Token);
    }

    [Fact]
    public async Task Damage_is_found_told_and_healed_by_the_next_full_backup()
    {
        var disk = NewDisk();
        var point = (await StoreTests.BackUpAsync(_agent, disk)).PointId;
        var sound = await ScrubAsync();
        Assert.Equal((0UL, 2UL), (sound.DamagesTotal, sound.Packs));
        var status = await _world.Role.Admin.GetStatusAsync(World.Token);
        Assert.Equal((status.Proof.Bytes, 0UL, false, 30U), (status.Proof.ProvenBytes, status.Proof.DamagesOpen, status.Proof.Unproven, status.Proof.Days));
        Assert.NotNull(status.Proof.OldestTime);

        var key = await HurtAsync();
        var found = await ScrubAsync();
        var finding = Assert.Single(found.Findings);
        Assert.Equal((key, 1UL, 0UL, 19UL), (finding.Object, finding.RecordsLost, finding.RecordsDoubtful, finding.RecordsSaved));
        Assert.Equal((1UL, 1UL), (found.DamagesTotal, found.RecordsMissing));
        status = await _world.Role.Admin.GetStatusAsync(World.Token);
        Assert.Equal((1UL, 1UL), (status.Proof.DamagesOpen, status.Proof.PointsDamaged));
        var damage = Assert.Single(await ListAsync());
        Assert.Equal((key, null), (damage.Object, damage.HealedTime));
        var range = Assert.Single(damage.Ranges);
        Assert.Equal((point, _agent.VmName, "vda", 4096UL, false), (range.PointId, range.VmName, range.StreamName, range.Length, range.Doubtful));
        Assert.True(Assert.Single((await _world.Role.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest(), World.Token)).RecoveryPoints).Damaged);
        Assert.Equal(range, Assert.Single((await GetAsync(point)).DamagedRanges));

        // Nothing is built on it: the agent is not told of it, and reads in full.
        var asked = new FindRecoveryPointsRequest { VmId = _agent.VmId.ToString(), PointIds = { point } };
        Assert.Empty((await _world.Role.Store.FindRecoveryPointsAsync(_agent.Caller, asked, World.Token)).CommittedPointIds);
        await StoreTests.BackUpAsync(_agent, disk);
        await AdvanceUntilAsync(async () => (await ListAsync()).Count == 0);
        Assert.False((await GetAsync(point)).Damaged);
        var healed = Assert.Single(await ListAsync(includeHealed: true));
        Assert.NotNull(healed.HealedTime);
        Assert.Equal([point], (await _world.Role.Store.FindRecoveryPointsAsync(_agent.Caller, asked, World.Token)).CommittedPointIds);
        Assert.Equal(0UL, (await ScrubAsync()).DamagesTotal);
    }

    [Fact]
    public async Task It_runs_by_itself_and_goes_on_after_a_restart()
    {
        await StoreTests.BackUpAsync(_agent, NewDisk());
        await AdvanceUntilAsync(async () => !(await _world.Role.Admin.GetStatusAsync(World.Token)).Proof.Unproven);
        var key = await HurtAsync();
        _world.Time.Advance(TimeSpan.FromDays(14));
        Assert.Empty(await ListAsync());
        await RestartAsync(loseCatalog: false);
        _world.Time.Advance(TimeSpan.FromDays(2));
        await AdvanceUntilAsync(async () => (await ListAsync()).Count == 1);
        Assert.Equal(key, Assert.Single(await ListAsync()).Object);
        var proof = (await _world.Role.Admin.GetStatusAsync(World.Token)).Proof;
        Assert.NotNull(proof.CycleTime);
    }

    [Fact]
    public async Task Damaged_manifests_and_keys_are_listed_until_they_are_whole()
    {
        var point = (await StoreTests.BackUpAsync(_agent, NewDisk())).PointId;
        var key = ObjectKeys.Manifest(_agent.VmId, Id16.Parse(point));
        var bytes = await _world.Store.ReadAllAsync(key, Limits.ManifestBytesMax, World.Token);
        var flipped = bytes.ToArray();
        flipped[40] ^= 1;
        await ReplaceAsync(key, flipped);
        Assert.Equal(key, Assert.Single((await ScrubAsync()).Problems).Object);
        Assert.Equal(key, Assert.Single(await ListAsync()).Object);
        await ReplaceAsync(key, bytes);
        Assert.Equal(0UL, (await ScrubAsync()).DamagesTotal);
        Assert.Empty(await ListAsync());
    }

    /// <summary>The key object's form and hash are right, and it does not open: nothing is known about the chunks below it.</summary>
    [Fact]
    public async Task A_key_that_does_not_open_damages_no_chunk()
    {
        await StoreTests.BackUpAsync(_agent, NewDisk());
        // The controller remembers the keys that it has just stored.
        await RestartAsync(loseCatalog: false, loseIndex: false);
        await foreach (var info in _world.Store.ListAsync(ObjectKeys.KeysPrefix, World.Token))
        {
            var key = KeyObject.Parse(await _world.Store.ReadAllAsync(info.Key, KeyObject.Size, World.Token));
            var other = key.Sealed.ToArray();
            other[^1] ^= 1;
            await ReplaceAsync(info.Key, (key with { Sealed = other }).ToBytes());
        }
        await HurtAsync();
        var finding = Assert.Single((await ScrubAsync()).Findings);
        Assert.Equal((0UL, 20UL), (finding.RecordsLost, finding.RecordsDoubtful));
    }

    /// <summary>The index that is made anew takes the damaged pack for sound, until it is read: before the scrub is due.</summary>
    [Fact]
    public async Task What_was_in_doubt_is_in_doubt_again_soon_after_the_index_was_lost()
    {
        await A_key_that_does_not_open_damages_no_chunk();
        Assert.Single(await ListAsync());
        await RestartAsync(loseCatalog: false, loseIndex: true);
        for (var i = 0; i < 100 && (await _world.Repository.Upkeep.ListDamagesAsync(World.Token)).Count == 0; i++)
        {
            await Task.Delay(20, World.Token);
        }
        Assert.Equal(20, Assert.Single(await _world.Repository.Upkeep.ListDamagesAsync(World.Token)).RecordsDoubtful);
        Assert.Single(await ListAsync());
    }

    /// <summary>The device fails for a moment: what that looked like is over with the next look at the same pack.</summary>
    [Fact]
    public async Task Transient_trouble_is_not_listed_for_long()
    {
        await StoreTests.BackUpAsync(_agent, NewDisk());
        Assert.Equal(0UL, (await ScrubAsync()).DamagesTotal);
        var key = await FindDataPackAsync();
        _inject = operation => operation.Step == SimulatedStep.Read && operation.Key == key ? FaultReason.Unavailable : null;
        Assert.Equal(key, Assert.Single((await ScrubAsync()).Problems).Object);
        Assert.Equal(key, Assert.Single(await ListAsync()).Object);
        _inject = null;
        await AdvanceUntilAsync(async () => (await ListAsync()).Count == 0);
    }

    /// <summary>A repair that lost nothing is told all the same.</summary>
    [Fact]
    public async Task Damage_that_is_repaired_at_once_is_listed_as_healed()
    {
        var point = (await StoreTests.BackUpAsync(_agent, NewDisk())).PointId;
        var key = await FindDataPackAsync();
        var pack = await _world.Store.ReadAllAsync(key, Limits.PackBytesMax, World.Token);
        pack[^10] ^= 1;
        await ReplaceAsync(key, pack);
        Assert.Equal((0UL, 20UL), Assert.Single((await ScrubAsync()).Findings) is var found ? (found.RecordsLost, found.RecordsSaved) : default);
        Assert.Empty(await ListAsync());
        var healed = Assert.Single(await ListAsync(includeHealed: true));
        Assert.Equal((key, true, 0), (healed.Object, healed.HealedTime is not null, healed.Ranges.Count));
        Assert.False((await GetAsync(point)).Damaged);
        await ScrubAsync();
        await RestartAsync(loseCatalog: false);
        _world.Time.Advance(TimeSpan.FromMinutes(6));
        await ScrubAsync();
        Assert.Single(await ListAsync(includeHealed: true));
    }

    /// <summary>A job ends its cycle while the regular run adds to it.</summary>
    [Fact]
    public async Task Runs_that_end_together_keep_one_cycle()
    {
        using var scrub = new ScrubService(
            new ScrubParts
            {
                Repository = _world.Repository, Store = _world.Store, Keyholder = null!, Catalog = _world.Role.Catalog, Jobs = _world.Role.Jobs, Time = _world.Time,
                Settings = new ScrubSettings(), Ledger = null!,
            },
            NullLogger<ScrubService>.Instance);
        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(
            async () =>
            {
                for (var i = 0; i < 200; i++)
                {
                    await scrub.NoteCycleAsync(new ScrubReport { Bytes = 1, DamageCount = 1, IsDone = i % 2 == 0 }, World.Token);
                }
            },
            World.Token)));
        Assert.InRange((await _world.Role.Catalog.Damages.ReadCycleAsync(World.Token)).Bytes, 1, 1600);
    }

    /// <summary>A lost catalog or index forgets neither the damage nor the way to its end.</summary>
    [Fact]
    public async Task A_lost_catalog_lists_open_damage_again()
    {
        await StoreTests.BackUpAsync(_agent, NewDisk());
        await HurtAsync();
        await ScrubAsync();
        await RestartAsync(loseCatalog: true);
        await AdvanceUntilAsync(async () => (await ListAsync()).Count == 1);
    }

    [Fact]
    public void The_rate_covers_the_repository_in_time_and_keeps_its_bounds()
    {
        Assert.Equal(ScrubService.BytesPerSecondMin, ScrubService.RateOf(1L << 30, 30, 0));
        var rate = ScrubService.RateOf(100L << 40, 30, 0);
        Assert.InRange((100L << 40) / rate, 14 * 86_400, 15 * 86_400);
        Assert.Equal(1 << 20, ScrubService.RateOf(100L << 40, 30, 1 << 20));
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        await _world.DisposeAsync();
    }

    private async Task RestartAsync(bool loseCatalog, bool loseIndex = false)
    {
        await StopAsync();
        await _world.RestartAsync(loseCatalog, loseIndex);
        _stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
        _running = _world.Role.RunAsync(_stop.Token);
    }

    private async Task StopAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        _stop.Dispose();
    }

    private static byte[] NewDisk()
    {
        var disk = new byte[20 * 4096];
        new Random(1).NextBytes(disk);
        return disk;
    }

    /// <summary>Flips a bit of one chunk's payload; the pack's key.</summary>
    private async Task<string> HurtAsync()
    {
        var key = await FindDataPackAsync();
        var pack = await _world.Store.ReadAllAsync(key, Limits.PackBytesMax, World.Token);
        pack[PackFooter.Parse(pack, pack.Length).Entries[3].Offset + RecordHeader.Size + 99] ^= 1;
        await ReplaceAsync(key, pack);
        return key;
    }

    private async Task<string> FindDataPackAsync()
    {
        await foreach (var info in _world.Store.ListAsync(ObjectKeys.PacksPrefix, World.Token))
        {
            var pack = await _world.Store.ReadAllAsync(info.Key, Limits.PackBytesMax, World.Token);
            if (PackFooter.Parse(pack, pack.Length).Kind == Format.Records.RecordKind.Data)
            {
                return info.Key;
            }
        }
        throw new InvalidOperationException("There is no data.");
    }

    private async Task ReplaceAsync(string key, byte[] bytes)
    {
        await _world.Store.DeleteAsync(key, World.Token);
        Assert.True(await _world.Store.PutAsync(key, bytes, World.Token));
    }

    private async Task<Protocol.Admin.V1.ScrubResult> ScrubAsync()
    {
        _world.Time.Advance(TimeSpan.FromSeconds(1));
        var job = (await _world.Role.Admin.StartScrubAsync(new StartScrubRequest(), World.Token)).Job;
        // It waits for a run that goes on by itself, which waits for the clock.
        for (var i = 0; job.State is JobState.Queued or JobState.Running; i++)
        {
            Assert.True(i < 2000, "The job does not end.");
            _world.Time.Advance(TimeSpan.FromMilliseconds(100));
            await Task.Delay(10, World.Token);
            job = await _world.GetJobAsync(job.JobId);
        }
        Assert.True(job.State == JobState.Succeeded, job.FailureMessage);
        Assert.Equal("scrub", job.Kind);
        return job.Result.Scrub;
    }

    private async Task<RecoveryPoint> GetAsync(string point) =>
        (await _world.Role.Admin.GetRecoveryPointAsync(new GetRecoveryPointRequest { Point = point }, World.Token)).RecoveryPoint;

    private async Task<List<FoundDamage>> ListAsync(bool includeHealed = false) =>
        [.. (await _world.Role.Admin.ListDamagesAsync(new ListDamagesRequest { IncludeHealed = includeHealed }, World.Token)).Damages];

    private async Task AdvanceUntilAsync(Func<Task<bool>> condition)
    {
        for (var i = 0; !await condition(); i++)
        {
            Assert.True(i < 500, "It did not happen.");
            _world.Time.Advance(TimeSpan.FromMinutes(1));
            await Task.Delay(10, World.Token);
        }
    }
}

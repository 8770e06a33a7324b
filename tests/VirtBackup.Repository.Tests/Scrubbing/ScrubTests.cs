using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Repository.Verification;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Scrubbing;

public sealed class ScrubTests
{
    private static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 30_000 };
    private static readonly int[] Disk = [.. Enumerable.Range(1, 90)];

    private static CancellationToken Token => World.Token;

    /// <summary>Every run reads one pack; restarts in between change nothing about the order.</summary>
    [Fact]
    public async Task TheOldestProofComesFirstAlsoAfterRestarts()
    {
        var read = new List<string>();
        var store = new HookedStore(new SimulatedStore());
        var world = await World.CreateAsync(store, SmallPacks);
        await world.BackUpAsync(world.NewMachine(1).Point(1, Disk));
        var packs = await world.KeysAsync(ObjectKeys.PacksPrefix);
        var began = Now(world);
        for (var i = 0; i < packs.Count; i++)
        {
            store.BeforeRead = key =>
            {
                if (key.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal) && !read.Contains(key))
                {
                    read.Add(key);
                }
                return Task.CompletedTask;
            };
            ((SetClock)world.Clock).Pass(TimeSpan.FromHours(1));
            var report = await world.Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = Now(world), BytesMax = 1 }, Token);
            Assert.Equal((1, false), (report.Packs, report.IsDone));
            Assert.Equal(i + 1, read.Count);
            store.BeforeRead = null;
            world = await world.RestartAsync(SmallPacks);
        }
        var proof = await world.Repository.Upkeep.ReadProofAsync(began, Token);
        Assert.Equal((proof.Bytes, began + 3_600_000), (proof.BytesProven, proof.OldestMs));
        Assert.Equal((await world.Repository.GetStatisticsAsync(Token)).PackBytes, proof.Bytes);
        // Nothing is due again before its time, and what is new comes first.
        Assert.Equal((0, true), Sum(await world.Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = began }, Token)));
        await world.BackUpAsync(world.NewMachine(2).Point(1, [1000, 1001]));
        Assert.Equal(0, (await world.Repository.Upkeep.ReadProofAsync(began, Token)).OldestMs);
        Assert.Equal((2, true), Sum(await world.Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = began }, Token)));
        // An index that was made anew has no proofs.
        await using var rebuilt = await world.RebuildAsync(SmallPacks);
        Assert.Equal((proof.Bytes > 0, 0L, 0L), (true, (await rebuilt.Repository.Upkeep.ReadProofAsync(began, Token)).BytesProven, (await rebuilt.Repository.Upkeep.ReadProofAsync(began, Token)).OldestMs));
        await world.DisposeAsync();

        static (long, bool) Sum(ScrubReport report) => (report.Packs, report.IsDone);
    }

    /// <summary>More is stored than is read: what is old is read all the same, and so is what is new.</summary>
    [Fact]
    public async Task NewPacksDoNotStarveOldOnes()
    {
        await using var world = await World.CreateAsync();
        for (var i = 1; i <= 4; i++)
        {
            await world.BackUpAsync(world.NewMachine(i).Point(1, [i]));
        }
        await world.ScrubAsync(open: false);
        var first = Now(world);
        for (var round = 0; round < 4; round++)
        {
            ((SetClock)world.Clock).Pass(TimeSpan.FromHours(1));
            foreach (var disk in Enumerable.Range(0, 4).Select(i => 100 + (round * 10) + i))
            {
                await world.BackUpAsync(world.NewMachine(disk).Point(1, [disk]));
            }
            var due = new ScrubOptions { CheckedBeforeMs = first + 1, BytesMax = 15_000 };
            Assert.False((await world.Repository.Upkeep.ScrubAsync(due, Token)).IsDone);
        }
        var after = await world.Repository.Upkeep.ReadProofAsync(first + 1, Token);
        Assert.True(after.BytesProven > 4 * 4000 && after.Bytes > after.BytesProven);
        Assert.Equal(0, after.OldestMs);
        // What was old at the start is not due any more; what is new still is.
        await world.Index.ReadAsync(
            connection =>
            {
                using var old = connection.Prepare("SELECT count(*) FROM pack WHERE checked_ms BETWEEN 1 AND ?1");
                Assert.True(old.Bind(1, first).Step());
                Assert.Equal(0, old.GetInt64(0));
                return true;
            },
            Token);
    }

    [Fact]
    public async Task WhatIsKnownToBeDamagedIsReadFirstAfterTheIndexWasMadeAnew()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var key = await world.HurtAsync(Machine.ChunkId(7));
        await using var rebuilt = await world.RebuildAsync(SmallPacks);
        Assert.Equal([1], await World.ProbeAsync(rebuilt.Repository, RecordKind.Data, World.Scope, Machine.ChunkId(7).ToArray()));
        var report = await rebuilt.Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = 0, First = ["packs/none", key] }, Token);
        Assert.Equal((key, true), (Assert.Single(report.Findings).ObjectKey, report.IsDone));
        Assert.Equal([0], await World.ProbeAsync(rebuilt.Repository, RecordKind.Data, World.Scope, Machine.ChunkId(7).ToArray()));
    }

    [Fact]
    public async Task AProofFromTheFutureIsNone()
    {
        await using var world = await World.CreateAsync();
        await world.BackUpAsync(world.NewMachine(1).Point(1, Disk));
        ((SetClock)world.Clock).Pass(TimeSpan.FromDays(1000));
        await world.ScrubAsync(open: false);
        ((SetClock)world.Clock).Pass(TimeSpan.FromDays(-900));
        Assert.Equal(2, (await world.Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = Now(world) - 1 }, Token)).Packs);
    }

    [Fact]
    public async Task TheRateIsKept()
    {
        var clock = new WaitingClock();
        await using var world = await World.CreateAsync(options: SmallPacks, clock: clock);
        await world.BackUpAsync(world.NewMachine(1).Point(1, Disk));
        var began = clock.GetUtcNow();
        var report = await world.Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = long.MaxValue, BytesPerSecond = 10_000 }, Token);
        Assert.InRange((clock.GetUtcNow() - began).TotalSeconds, report.Bytes / 10_000.0 * 0.9, report.Bytes / 10_000.0 * 1.1);
    }

    /// <summary>A purge deletes the manifest first and tells the index afterwards.</summary>
    [Fact]
    public async Task PurgingMeanwhileIsNoDamage()
    {
        var store = new HookedStore(new SimulatedStore());
        await using var world = await World.CreateAsync(store);
        var machine = world.NewMachine(1);
        var (kept, dropped) = (machine.Point(1, Disk), machine.Point(2, Disk));
        await world.BackUpAsync(kept);
        await world.BackUpAsync(dropped);
        await world.Repository.ForgetAsync(dropped.Id, Token);
        ((SetClock)world.Clock).Pass(TimeSpan.FromDays(9));
        Task<IReadOnlyList<Damage>>? check = null;
        store.AfterDelete = async key =>
        {
            if (check is null && key.StartsWith(ObjectKeys.TrashPrefix, StringComparison.Ordinal))
            {
                check = world.Repository.Upkeep.CheckObjectsAsync(new HashSignatures(), Token).AsTask();
                await Task.WhenAny(check, Task.Delay(TimeSpan.FromMilliseconds(200), Token));
            }
        };
        Assert.Equal(1, (await world.Repository.CollectAsync(new CollectionOptions(), Token)).PointsPurged);
        Assert.NotNull(check);
        Assert.Empty(await check);
    }

    [Fact]
    public async Task ManifestsKeysAndLocksAreChecked()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var (first, second) = (machine.Point(1, Disk), machine.Point(2, Disk));
        await world.BackUpAsync(first);
        await world.BackUpAsync(second);
        await world.Repository.ForgetAsync(second.Id, Token);
        await world.Repository.PutAgentKeyAsync(new byte[] { 1, 2, 3 }, Token);
        Assert.Empty(await world.Repository.Upkeep.CheckObjectsAsync(new HashSignatures(), Token));
        foreach (var key in await world.KeysAsync(""))
        {
            if (key.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal) || key.StartsWith(ObjectKeys.OwnerPrefix, StringComparison.Ordinal))
            {
                continue;
            }
            var sound = await world.Store.ReadAllAsync(key, Limits.ManifestBytesMax, Token);
            var flipped = sound.ToArray();
            flipped[sound.Length / 2] ^= 1;
            await world.ReplaceAsync(key, flipped);
            Assert.Contains(await world.Repository.Upkeep.CheckObjectsAsync(new HashSignatures(), Token), damage => damage.ObjectKey == key);
            await world.Store.DeleteAsync(key, Token);
            if (!key.StartsWith(ObjectKeys.AgentsPrefix, StringComparison.Ordinal))
            {
                Assert.Contains(await world.Repository.Upkeep.CheckObjectsAsync(new HashSignatures(), Token), damage => key.StartsWith(damage.ObjectKey, StringComparison.Ordinal));
            }
            Assert.True(await world.Store.PutAsync(key, sound, Token));
        }
        Assert.True(await world.Store.PutAsync($"{ObjectKeys.LocksPrefix}{first.Id}/nonsense", new byte[1], Token));
        Assert.Contains("nonsense", Assert.Single(await world.Repository.Upkeep.CheckObjectsAsync(new HashSignatures(), Token)).ObjectKey);
    }

    /// <summary>A pack that cannot be read now is told, does not stop the others, and is tried again.</summary>
    [Fact]
    public async Task AnUnreadablePackIsTriedAgain()
    {
        var store = new HookedStore(new SimulatedStore());
        await using var world = await World.CreateAsync(store, SmallPacks);
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var packs = await world.KeysAsync(ObjectKeys.PacksPrefix);
        store.BeforeRead = key => key == packs[1] ? throw new FaultException(FaultReason.Unavailable, "The device failed.") : Task.CompletedTask;
        var report = await world.ScrubAsync(open: true);
        Assert.Equal(packs[1], Assert.Single(report.Problems).ObjectKey);
        Assert.Equal((packs.Count - 1, 1), (report.Packs, report.DamageCount));
        Assert.True(report.IsDone);
        store.BeforeRead = null;
        var began = Now(world);
        Assert.Equal(1, (await world.Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = began }, Token)).Packs);
        await world.AssertSoundAsync(point);
    }

    /// <summary>The collector writes packs anew and deletes them while they are read: nothing is taken for damaged.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task CollectingMeanwhileIsNoDamage(int seed)
    {
        var store = new HookedStore(new SimulatedStore());
        await using var world = await World.CreateAsync(store, SmallPacks);
        var machine = world.NewMachine(1);
        var random = new Random(seed);
        var kept = machine.Point(1, [.. Disk.Select(content => random.Next(3) == 0 ? content + 1000 : content)]);
        var dropped = machine.Point(2, Disk);
        await world.BackUpAsync(kept);
        await world.BackUpAsync(dropped);
        await world.Repository.ForgetAsync(dropped.Id, Token);
        var collecting = false;
        store.BeforeRead = async key =>
        {
            if (!collecting && key.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal) && random.Next(4) == 0)
            {
                collecting = true;
                ((SetClock)world.Clock).Pass(TimeSpan.FromDays(9));
                await world.Repository.CollectAsync(new CollectionOptions(), Token);
                collecting = false;
            }
        };
        for (var i = 0; i < 6; i++)
        {
            var report = await world.ScrubAsync(open: true);
            Assert.Equal((0, true), (report.DamageCount, report.IsDone));
        }
        store.BeforeRead = null;
        await world.AssertSoundAsync(kept);
    }

    private static long Now(World world) => world.Clock.GetUtcNow().ToUnixTimeMilliseconds();

    /// <summary>Time passes while somebody waits for it, and only then.</summary>
    private sealed class WaitingClock : TimeProvider
    {
        private DateTimeOffset _now = DateTimeOffset.UnixEpoch.AddDays(20_000);

        public override DateTimeOffset GetUtcNow() => _now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _now.Ticks;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            var alarm = new Alarm(() => callback(state), time => _now += time);
            alarm.Change(dueTime, period);
            return alarm;
        }

        private sealed class Alarm(Action fire, Action<TimeSpan> pass) : ITimer
        {
            public bool Change(TimeSpan dueTime, TimeSpan period)
            {
                if (dueTime > TimeSpan.Zero)
                {
                    pass(dueTime);
                    ThreadPool.QueueUserWorkItem(_ => fire());
                }
                return true;
            }

            public void Dispose()
            {
            }

            public ValueTask DisposeAsync() => ValueTask.CompletedTask;
        }
    }
}

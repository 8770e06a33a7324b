using VirtBackup.Core;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Tests.Collection;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Replication;

/// <summary>
/// Three repositories with random pasts: backups, pulls in any direction that are cut off anywhere, forgetting, collections,
/// restarts, rebuilds, lost power. What is listed is whole, and nothing is taken that is here already.
/// </summary>
public sealed class RandomReplicationTests
{
    private static CancellationToken Token => World.Token;

    public static TheoryData<int> Seeds() => [.. Enumerable.Range(1, 12)];

    [Theory]
    [MemberData(nameof(Seeds))]
    public async Task WhatIsListedIsWholeAndNothingTravelsTwice(int seed)
    {
        var run = new Run(seed);
        await run.RunAsync(operations: 40);
    }

    private sealed class Run(int seed)
    {
        private readonly Random _random = new(seed);
        private readonly Dictionary<Id16, PointBytes> _all = [];
        private readonly List<Site> _sites = [];
        private readonly SetClock _clock = new();

        public async Task RunAsync(int operations)
        {
            for (var i = 1; i <= 3; i++)
            {
                var store = new SimulatedStore();
                _sites.Add(new Site(i, store, await Sites.CreateAsync(i, Sites.SmallPacks, store, _clock)));
            }
            for (var i = 0; i < operations; i++)
            {
                await StepAsync(_sites[_random.Next(3)]);
            }
            foreach (var site in _sites)
            {
                await site.World.Repository.CollectAsync(new CollectionOptions(), Token);
                await CollectionTests.AssertCountsAsync(site.World);
                await site.World.AssertWholeAsync([.. site.Visible.Select(id => _all[id])]);
            }
        }

        private async Task StepAsync(Site site)
        {
            switch (_random.Next(12))
            {
                case < 3:
                    await BackUpAsync(site);
                    break;
                case < 7:
                    await PullAsync(site, _sites[_random.Next(3)]);
                    break;
                case 7 when site.Visible.Count > 0:
                    var point = site.Visible.ElementAt(_random.Next(site.Visible.Count));
                    await site.World.Repository.ForgetAsync(point, Token);
                    site.Visible.Remove(point);
                    break;
                case 8:
                    site.World = await site.World.RestartAsync(Sites.SmallPacks);
                    break;
                case 9:
                    site.World = await site.World.RebuildAsync(Sites.SmallPacks);
                    break;
                case 10:
                    await LosePowerAsync(site);
                    break;
                default:
                    _clock.Pass(TimeSpan.FromHours(_random.Next(1, 100)));
                    Assert.Empty((await site.World.Repository.CollectAsync(new CollectionOptions(), Token)).Problems);
                    break;
            }
            await CollectionTests.AssertCountsCoverAsync(site.World);
            await AssertListedAsync(site);
        }

        private async Task BackUpAsync(Site site)
        {
            var which = _random.Next(2);
            if (!site.Disks.TryGetValue(which, out var disk))
            {
                site.Disks[which] = disk = [.. Enumerable.Range(0, _random.Next(1, 300)).Select(at => _random.Next(4) == 0 ? 0 : at + 1)];
            }
            for (var changes = _random.Next(8); changes > 0; changes--)
            {
                disk[_random.Next(disk.Length)] = 1 + _random.Next(400);
            }
            disk[0] = 1;
            var point = Sites.MachineOf(site.Number, which).Point(++site.Points, [.. disk]);
            await site.World.BackUpAsync(point);
            _all.Add(point.Id, point);
            site.Visible.Add(point.Id);
        }

        private async Task PullAsync(Site here, Site there)
        {
            if (here == there)
            {
                return;
            }
            var forgotten = (await here.World.Repository.ListForgottenAsync(Token)).Select(row => row.Point).ToHashSet();
            foreach (var id in there.Visible.Except(here.Visible).Where(id => !forgotten.Contains(id)).Take(3).ToArray())
            {
                // Time passes and records are collected between two tries.
                for (var tries = _random.Next(4); tries > 0; tries--)
                {
                    await PullOnceAsync(here, there, _all[id], cutAfter: _random.Next(1, 200));
                }
                if (_random.Next(4) > 0)
                {
                    await PullOnceAsync(here, there, _all[id], cutAfter: int.MaxValue);
                }
            }
        }

        private async Task PullOnceAsync(Site here, Site there, PointBytes point, int cutAfter)
        {
            var present = await PresentAsync(here.World, point);
            var source = new PullSource(there.World.Repository);
            source.BeforeSlice = () => --cutAfter < 0 ? throw new FaultException(FaultReason.Unavailable, "The link is down.") : Task.CompletedTask;
            try
            {
                await here.World.PullAsync(source, point);
                here.Visible.Add(point.Id);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable && cutAfter < 0)
            {
                // It goes on another time.
            }
            Assert.DoesNotContain(source.Taken, present.Contains);
            Assert.Equal(source.Taken.Count, source.Taken.Distinct().Count());
        }

        /// <summary>The store loses power in the middle of a pull; whether the point got there is what the store says.</summary>
        private async Task LosePowerAsync(Site here)
        {
            var there = _sites[_random.Next(3)];
            var forgotten = (await here.World.Repository.ListForgottenAsync(Token)).Select(row => row.Point).ToHashSet();
            var wanted = there.Visible.Except(here.Visible).Where(id => !forgotten.Contains(id)).Select(id => _all[id]).FirstOrDefault();
            if (here == there || wanted is null)
            {
                return;
            }
            here.Store.CrashAt(here.Store.Operations + _random.Next(60));
            try
            {
                await here.World.PullAsync(new PullSource(there.World.Repository), wanted);
                here.Visible.Add(wanted.Id);
            }
            catch (SimulatedCrashException)
            {
                // It may have come to its commit.
            }
            here.Store = here.Store.Crash(_random.Next(), new SimulatedStoreOptions());
            here.World = await World.OpenAsync(here.Store, _random.Next(2) == 0 ? here.World.Index : World.NewIndex(), Sites.SmallPacks, _clock);
            Assert.Empty(here.World.Repository.OpenReport.Problems);
            if (await here.World.Repository.FindPointAsync(wanted.Id, Token) is not null)
            {
                here.Visible.Add(wanted.Id);
            }
        }

        private async Task AssertListedAsync(Site site)
        {
            var points = await site.World.Repository.ListPointsAsync(null, Token);
            Assert.Equal(site.Visible.Order(), points.Select(point => point.Point).Order());
            Assert.All(points, point => Assert.True(point.IsComplete));
            foreach (var id in site.Visible.Where(_ => _random.Next(8) == 0))
            {
                await site.World.AssertReadableAsync(_all[id]);
            }
        }

        /// <summary>Ids of what the index knows for that point's scope.</summary>
        private static async Task<HashSet<Id32>> PresentAsync(World world, PointBytes point)
        {
            var names = (await world.DumpAsync()).Where(line => line.StartsWith("object ", StringComparison.Ordinal)).Select(line => line.Split(' '))
                .Where(parts => parts[1] == nameof(RecordKind.Map) || parts[3] == $"scope={point.Machine.Scope}").Select(parts => parts[2]).ToHashSet();
            return [.. point.Chunks.Concat(point.Nodes).Select(record => RecordHeader.Parse(record).Id).Where(id => names.Contains(id.ToString()))];
        }
    }

    private sealed class Site(int number, SimulatedStore store, World world)
    {
        public int Number => number;

        public SimulatedStore Store { get; set; } = store;

        public World World { get; set; } = world;

        public HashSet<Id16> Visible { get; } = [];

        public Dictionary<int, int[]> Disks { get; } = [];

        public int Points { get; set; }
    }
}

using VirtBackup.Core;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Collection;

/// <summary>
/// Random backups, failed commits, forgetting, recalling, restarts, rebuilds and collections, with a model of what must be
/// there. Failures are found again by their seed.
/// </summary>
public sealed class RandomOperationsTests
{
    private static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 25_000 };

    private static CancellationToken Token => World.Token;

    [Theory]
    [MemberData(nameof(Seeds))]
    public async Task CountsStayExactAndNothingNeededGoes(int seed)
    {
        var run = new Run(seed);
        await run.RunAsync(operations: 40);
    }

    public static TheoryData<int> Seeds() => [.. Enumerable.Range(1, 30)];

    private sealed class Run(int seed)
    {
        private readonly Random _random = new(seed);
        private readonly Dictionary<Id16, PointBytes> _visible = [];
        private readonly Dictionary<Id16, (PointBytes Point, DateTimeOffset Since)> _forgotten = [];
        private readonly Dictionary<int, (int Number, int[] Disk)> _machines = [];
        private World _world = null!;
        private SimulatedStore _store = null!;

        public async Task RunAsync(int operations)
        {
            _world = await World.CreateAsync(_store = new SimulatedStore(), SmallPacks, new SetClock());
            for (var i = 0; i < operations; i++)
            {
                await StepAsync();
            }
            await _world.Repository.CollectAsync(new CollectionOptions(), Token);
            await CheckAsync();
            // Left alone, the repository loses what nobody needs.
            await CollectionTests.CollectForDaysAsync(_world, 14);
            _forgotten.Clear();
            await CheckAsync();
            await CollectionTests.AssertNothingUnneededAsync(_world, deadPercentMax: 30);
        }

        private async Task StepAsync()
        {
            switch (_random.Next(10))
            {
                case < 4:
                    await BackUpAsync(commits: _random.Next(5) > 0);
                    break;
                case 4 when _visible.Count > 0:
                    var point = _visible.Values.ElementAt(_random.Next(_visible.Count));
                    await _world.Repository.ForgetAsync(point.Id, Token);
                    _visible.Remove(point.Id);
                    _forgotten.Add(point.Id, (point, _world.Clock.GetUtcNow()));
                    break;
                case 5 when _forgotten.Count > 0:
                    await RecallAsync(_forgotten.Values.ElementAt(_random.Next(_forgotten.Count)));
                    break;
                case 6:
                    // A crash between operations: what the index did is durable, sessions are gone.
                    _world = await _world.RestartAsync(SmallPacks);
                    break;
                case 7:
                    _world = await _world.RebuildAsync(SmallPacks);
                    foreach (var forgotten in await _world.Repository.ListForgottenAsync(Token))
                    {
                        _forgotten[forgotten.Point] = _forgotten[forgotten.Point] with { Since = _world.Clock.GetUtcNow() };
                    }
                    break;
                default:
                    ((SetClock)_world.Clock).Pass(TimeSpan.FromHours(_random.Next(1, 80)));
                    Assert.Empty((await _world.Repository.CollectAsync(new CollectionOptions { RepackDeadPercent = _random.Next(1, 60) }, Token)).Problems);
                    break;
            }
            await CollectionTests.AssertCountsCoverAsync(_world);
        }

        private async Task BackUpAsync(bool commits)
        {
            var which = _random.Next(3);
            if (!_machines.TryGetValue(which, out var state))
            {
                // Machines share part of their content.
                state = (0, [.. Enumerable.Range(0, _random.Next(1, 90)).Select(at => _random.Next(4) == 0 ? 0 : _random.Next(2) == 0 ? at + 1 : 1 + _random.Next(200))]);
            }
            for (var changes = _random.Next(8); changes > 0; changes--)
            {
                state.Disk[_random.Next(state.Disk.Length)] = _random.Next(200);
            }
            if (!Array.Exists(state.Disk, content => content > 0))
            {
                state.Disk[0] = 1;
            }
            state.Number++;
            _machines[which] = state;
            var point = _world.NewMachine(which).Point(state.Number, [.. state.Disk]);
            await using var session = _world.Begin();
            await _world.Repository.PutKeyAsync(point.Machine.Key(1), Token);
            // As an agent does: what the probe calls present is not sent.
            var contents = point.Disk.Distinct().Where(content => content != 0).ToArray();
            var bitmap = await _world.Repository.ProbeAsync(RecordKind.Data, session, contents.SelectMany(content => Machine.ChunkId(content).ToArray()).ToArray(), Token);
            if (_random.Next(3) == 0)
            {
                ((SetClock)_world.Clock).Pass(TimeSpan.FromHours(_random.Next(1, 200)));
                await _world.Repository.CollectAsync(new CollectionOptions(), Token);
            }
            await World.SendAsync(
                session, RecordKind.Data, contents.Where((_, i) => (bitmap[i / 8] & (1 << (i % 8))) == 0).Select(content => point.Machine.DataRecord(content)));
            await World.SendAsync(session, RecordKind.Map, point.Nodes);
            if (commits)
            {
                await _world.CommitAsync(session, point);
                _visible.Add(point.Id, point);
            }
        }

        private async Task RecallAsync((PointBytes Point, DateTimeOffset Since) row)
        {
            try
            {
                await _world.Repository.RecallAsync(row.Point.Machine.Vm, row.Point.Id, Token);
                _visible.Add(row.Point.Id, row.Point);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
            {
                Assert.True(_world.Clock.GetUtcNow() - row.Since >= TimeSpan.FromHours(24), "The point went before its safety time was over.");
            }
            _forgotten.Remove(row.Point.Id);
        }

        private async Task CheckAsync()
        {
            Assert.Equal(_visible.Keys.Order(), (await _world.Repository.ListPointsAsync(null, Token)).Select(point => point.Point).Order());
            foreach (var point in _visible.Values)
            {
                await _world.AssertReadableAsync(point);
            }
            Assert.Empty((await _world.VerifyAsync(open: true)).Damages);
            await CollectionTests.AssertCountsAsync(_world);
        }
    }
}

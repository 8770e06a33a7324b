using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests;

/// <summary>
/// A small history (begin, upload, commit, a second point that shares nodes, forget, recall) loses power before every
/// operation of the store in turn. Afterwards: whatever was acknowledged is there, committed points are whole, nothing
/// else is visible, and the repository goes on.
/// </summary>
public sealed class CrashTests
{
    private static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 15_000 };
    private static readonly int[] Disk = [.. Enumerable.Range(1, 22)];

    private static CancellationToken Token => World.Token;

    [Theory]
    [InlineData(false, 3)]
    [InlineData(true, 1)]
    public async Task NothingAcknowledgedIsLost(bool indexIsLost, int outcomes)
    {
        var operations = await CountOperationsAsync();
        Assert.InRange(operations, 60, 2000);
        for (var at = 0L; at <= operations; at++)
        {
            for (var seed = 0; seed < outcomes; seed++)
            {
                await CrashAtAsync(at, seed, indexIsLost);
            }
        }
    }

    /// <summary>A store that breaks its promise is found out: the test above can fail.</summary>
    [Theory]
    [InlineData("bytes are not flushed")]
    [InlineData("names are not flushed")]
    [InlineData("names come before bytes")]
    public async Task AStoreThatBreaksItsPromiseIsFoundOut(string defect)
    {
        var options = new SimulatedStoreOptions
        {
            SkipFileSync = defect == "bytes are not flushed", SkipFolderSync = defect == "names are not flushed",
            TearOnPublish = defect == "names come before bytes",
        };
        var operations = await CountOperationsAsync();
        for (var at = 0L; at <= operations; at++)
        {
            try
            {
                await CrashAtAsync(at, 1, indexIsLost: false, options);
            }
            catch (InvalidOperationException)
            {
                return;
            }
        }
        Assert.Fail($"Nothing was lost although {defect}.");
    }

    private static async Task<long> CountOperationsAsync()
    {
        var store = new SimulatedStore();
        await World.InitializeAsync(store);
        var before = store.Operations;
        await using var index = World.NewIndex();
        await new History().RunAsync(store, index);
        return store.Operations - before;
    }

    private static async Task CrashAtAsync(long at, int seed, bool indexIsLost, SimulatedStoreOptions? options = null)
    {
        var store = new SimulatedStore();
        await World.InitializeAsync(store);
        store = store.Kill(options ?? new SimulatedStoreOptions());
        store.CrashAt(store.Operations + at);
        await using var index = World.NewIndex();
        var history = new History();
        try
        {
            await history.RunAsync(store, index);
        }
        catch (SimulatedCrashException)
        {
            Assert.False(history.IsFinished);
        }
        var survivor = store.Crash(seed, new SimulatedStoreOptions());
        await using var other = World.NewIndex();
        try
        {
            await CheckAsync(history, survivor, indexIsLost ? other : index);
        }
        catch (Exception exception)
        {
            throw new InvalidOperationException($"After a crash at operation {at}, outcome {seed}: {exception.Message}", exception);
        }
    }

    private static async Task CheckAsync(History history, SimulatedStore store, IDatabase index)
    {
        await using var world = await World.OpenAsync(store, index, SmallPacks);
        Assert.Empty(world.Repository.OpenReport.Problems);
        if (history.DurableChunks.Count > 0)
        {
            var ids = history.DurableChunks.SelectMany(content => Machine.ChunkId(content).ToArray()).ToArray();
            var bitmap = await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, ids);
            Assert.Equal(history.DurableChunks.Count, bitmap.Sum(part => System.Numerics.BitOperations.PopCount(part)));
        }
        var visible = (await world.Repository.ListPointsAsync(null, Token)).Select(point => point.Point).ToHashSet();
        foreach (var point in new[] { history.First, history.Second })
        {
            var state = history.StateOf(point);
            Assert.True(state is null || state == visible.Contains(point.Id), $"point {point.Number} should be visible: {state}");
            if (visible.Contains(point.Id))
            {
                await world.AssertReadableAsync(point);
            }
        }
        Assert.Subset(new HashSet<Id16> { history.First.Id, history.Second.Id }, visible);
        var report = await world.VerifyAsync(open: true);
        Assert.Empty(report.Damages);
        // An index brought up to date and one made anew say the same, once what a commit that failed had marked is released.
        await world.Repository.CollectAsync(new CollectionOptions(), Token);
        await using var rebuilt = await World.OpenAsync(store, World.NewIndex());
        Assert.Equal(await rebuilt.DumpAsync(), await world.DumpAsync());
        // And the repository goes on.
        foreach (var forgotten in await rebuilt.Repository.ListForgottenAsync(Token))
        {
            if (await rebuilt.Repository.FindPointAsync(forgotten.Point, Token) is null)
            {
                await rebuilt.Repository.RecallAsync(forgotten.Vm, forgotten.Point, Token);
            }
        }
        foreach (var point in new[] { history.First, history.Second })
        {
            await rebuilt.BackUpAsync(point);
            await rebuilt.AssertReadableAsync(point);
        }
    }

    /// <summary>The workload, and what it was told.</summary>
    private sealed class History
    {
        private readonly Dictionary<Id16, bool?> _states = [];

        public History()
        {
            var machine = new Machine(World.Uuid, World.Scope, 1);
            First = machine.Point(1, Disk);
            var changed = Disk.ToArray();
            changed[5] = 500;
            Second = machine.Point(2, changed, at => at == 5 ? 2 : 1);
            _states[First.Id] = false;
            _states[Second.Id] = false;
        }

        public PointBytes First { get; }

        public PointBytes Second { get; }

        public List<int> DurableChunks { get; } = [];

        public bool IsFinished { get; private set; }

        /// <summary>Whether the point must be visible; null when the answer was lost.</summary>
        public bool? StateOf(PointBytes point) => _states[point.Id];

        public async Task RunAsync(SimulatedStore store, IDatabase index)
        {
            await using var repository = await World.OpenRepositoryAsync(store, index, SmallPacks);
            foreach (var point in new[] { First, Second })
            {
                await using var session = repository.BeginIngest(World.Scope, 1);
                foreach (var epoch in point.Epochs)
                {
                    await repository.PutKeyAsync(point.Machine.Key(epoch), Token);
                }
                await SendDataAsync(session, point);
                await World.SendAsync(session, RecordKind.Map, point.Nodes);
                await ChangeAsync(point, true, async () =>
                    await repository.CommitAsync(session, point.Manifest, point.Expectation, Commits.KeylessLeafInspector.Instance, Token));
            }
            await ChangeAsync(First, false, async () => await repository.ForgetAsync(First.Id, Token));
            await ChangeAsync(First, true, async () => await repository.RecallAsync(First.Machine.Vm, First.Id, Token));
            IsFinished = true;
        }

        private async Task SendDataAsync(Ingest.IngestSession session, PointBytes point)
        {
            var lane = session.OpenLane(RecordKind.Data);
            var sent = point.Disk.Distinct().ToArray();
            var length = point.Chunks.First().Length;
            try
            {
                foreach (var record in point.Chunks)
                {
                    await lane.AppendAsync(record, Token);
                }
                await lane.FlushAsync(Token);
            }
            finally
            {
                DurableChunks.AddRange(sent.Take((int)(lane.DurableOffset / length)));
            }
        }

        private async Task ChangeAsync(PointBytes point, bool outcome, Func<Task> change)
        {
            _states[point.Id] = null;
            await change();
            _states[point.Id] = outcome;
        }
    }
}

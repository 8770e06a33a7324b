using CsCheck;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests;

public sealed class IngestTests
{
    private static CancellationToken Token => World.Token;

    [Fact]
    public void RecordsSurviveAnySlicing() =>
        Gen.Select(Gen.Int[1, 400].Array[1, 30], Gen.Int[1, 20_000].Array[1, 40], Gen.Int[0, 3], Gen.Int[5_000, 60_000]).Sample(
            (contents, cuts, flushEvery, packBytes) => IngestInSlicesAsync(contents, cuts, flushEvery, packBytes).GetAwaiter().GetResult(),
            iter: 60, threads: 1);

    private static async Task IngestInSlicesAsync(int[] contents, int[] cuts, int flushEvery, int packBytes)
    {
        var store = new SimulatedStore();
        await using var world = await World.CreateAsync(store, new RepositoryOptions { PackBytesTarget = packBytes });
        var machine = world.NewMachine(1);
        var bytes = contents.SelectMany(content => machine.DataRecord(content)).ToArray();
        await using (var session = world.Begin())
        {
            var lane = session.OpenLane(RecordKind.Data);
            for (int at = 0, i = 0; at < bytes.Length; i++)
            {
                var slice = bytes.AsMemory(at, Math.Min(cuts[i % cuts.Length], bytes.Length - at));
                await lane.AppendAsync(slice, Token);
                at += slice.Length;
                if (flushEvery > 0 && i % flushEvery == 0)
                {
                    await lane.FlushAsync(Token);
                }
                Assert.Equal(0, lane.DurableOffset % machine.DataRecord(1).Length);
                Assert.InRange(store.StagedCount, 0, 2);
            }
            await lane.FlushAsync(Token);
            Assert.Equal(bytes.Length, lane.DurableOffset);
        }
        var stored = new List<string>();
        foreach (var key in await world.KeysAsync(ObjectKeys.PacksPrefix))
        {
            var pack = await store.ReadAllAsync(key, Limits.PackBytesMax, Token);
            Assert.True(ObjectKeys.TryParsePack(key, out var hash));
            Assert.Equal(hash, Id32.Read(System.Security.Cryptography.SHA256.HashData(pack)));
            foreach (var entry in PackFooter.Parse(pack, pack.Length).Entries)
            {
                stored.Add(Convert.ToHexString(pack.AsSpan((int)entry.Offset, entry.Header.RecordLength)));
            }
        }
        Assert.Equal(
            contents.Distinct().Select(content => Convert.ToHexString(machine.DataRecord(content))).Order(StringComparer.Ordinal),
            stored.Distinct().Order(StringComparer.Ordinal));
        var ids = contents.SelectMany(content => Machine.ChunkId(content).ToArray()).ToArray();
        var bitmap = await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, ids);
        Assert.Equal(contents.Length, bitmap.Sum(part => System.Numerics.BitOperations.PopCount(part)));
    }

    [Fact]
    public async Task ARecordSentTwiceIsStoredOnceInItsPack()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        await using var session = world.Begin();
        await World.SendAsync(session, RecordKind.Data, [machine.DataRecord(1), machine.DataRecord(2), machine.DataRecord(1)]);
        Assert.Equal(2, (await world.Repository.GetStatisticsAsync(Token)).Chunks);
    }

    [Theory]
    [InlineData("magic", FaultReason.Malformed)]
    [InlineData("checksum", FaultReason.Malformed)]
    [InlineData("kind", FaultReason.Malformed)]
    [InlineData("scope", FaultReason.Denied)]
    public async Task AWrongRecordFailsTheLaneAndNothingOfItsPackIsKept(string what, FaultReason reason)
    {
        var store = new SimulatedStore();
        await using var world = await World.CreateAsync(store);
        var machine = world.NewMachine(1);
        var wrong = what switch
        {
            "kind" => Machine.NodeRecord(machine.Point(1, [1]).Nodes[0].AsSpan(RecordHeader.Size).ToArray()),
            "scope" => machine.DataRecord(2, otherScope: Machine.NameOf("scope", 2)),
            _ => machine.DataRecord(2),
        };
        wrong[what == "magic" ? 0 : 30] ^= (byte)(what is "magic" or "checksum" ? 1 : 0);
        await using var session = world.Begin();
        var lane = session.OpenLane(RecordKind.Data);
        await lane.AppendAsync(machine.DataRecord(1), Token);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await lane.AppendAsync(wrong, Token));
        Assert.Equal(reason, fault.Reason);
        Assert.Contains($"byte {machine.DataRecord(1).Length} of the upload lane", fault.Message, StringComparison.Ordinal);
        Assert.Equal(reason, (await Assert.ThrowsAsync<FaultException>(async () => await lane.AppendAsync(wrong, Token))).Reason);
        Assert.Equal(reason, (await Assert.ThrowsAsync<FaultException>(async () => await lane.FlushAsync(Token))).Reason);
        Assert.Equal(reason, (await Assert.ThrowsAsync<FaultException>(async () => await lane.WaitForDurableAsync(0, Token))).Reason);
        Assert.Equal(0, store.StagedCount);
        Assert.Empty(await world.KeysAsync(ObjectKeys.PacksPrefix));
        Assert.Equal(0, lane.DurableOffset);
    }

    [Fact]
    public async Task AMapNodeThatIsNotItsIdIsRefused()
    {
        await using var world = await World.CreateAsync();
        await using var session = world.Begin();
        var lane = session.OpenLane(RecordKind.Map);
        var record = world.NewMachine(1).Point(1, [1, 2, 3]).Nodes[0];
        record[^1] ^= 1;
        Assert.Equal(FaultReason.Malformed, (await Assert.ThrowsAsync<FaultException>(async () => await lane.AppendAsync(record, Token))).Reason);
    }

    [Fact]
    public async Task ALaneIsRewoundToWhatIsDurable()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var length = machine.DataRecord(1).Length;
        await using var session = world.Begin();
        var lane = session.OpenLane(RecordKind.Data);
        await lane.AppendAsync(machine.DataRecord(1), Token);
        await lane.FlushAsync(Token);
        await lane.AppendAsync(machine.DataRecord(2), Token);
        await lane.AppendAsync(machine.DataRecord(3).AsMemory(0, 100), Token);
        Assert.Equal(length, await lane.RewindAsync(Token));
        Assert.Equal(length, lane.AppendedOffset);
        await lane.AppendAsync(machine.DataRecord(4), Token);
        await lane.FlushAsync(Token);
        Assert.Equal(2 * length, lane.DurableOffset);
        Assert.Equal(2, (await world.Repository.GetStatisticsAsync(Token)).Chunks);
    }

    [Fact]
    public async Task AfterAFailedPublishTheSameBytesCanBeSentAgain()
    {
        var store = new SimulatedStore();
        await World.InitializeAsync(store);
        var failing = true;
        store = store.Kill(new SimulatedStoreOptions
        {
            Inject = step => failing && step.Step == SimulatedStep.SyncFile && step.Key!.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal)
                ? FaultReason.Unavailable : null,
        });
        await using var world = await World.OpenAsync(store, World.NewIndex());
        await using var session = world.Begin();
        var lane = session.OpenLane(RecordKind.Data);
        var record = world.NewMachine(1).DataRecord(1);
        await lane.AppendAsync(record, Token);
        Assert.Equal(FaultReason.Unavailable, (await Assert.ThrowsAsync<FaultException>(async () => await lane.FlushAsync(Token))).Reason);
        Assert.Equal(0, lane.DurableOffset);
        failing = false;
        Assert.Equal(0, await lane.RewindAsync(Token));
        await lane.AppendAsync(record, Token);
        await lane.FlushAsync(Token);
        Assert.Equal(record.Length, await lane.WaitForDurableAsync(0, Token));
    }

    [Fact]
    public async Task FlushingInsideARecordClosesThePackBehindIt()
    {
        await using var world = await World.CreateAsync();
        await using var session = world.Begin();
        var lane = session.OpenLane(RecordKind.Data);
        var record = world.NewMachine(1).DataRecord(1);
        await lane.AppendAsync(record.AsMemory(0, 200), Token);
        await lane.FlushAsync(Token);
        Assert.Equal(0, lane.DurableOffset);
        await lane.AppendAsync(record.AsMemory(200), Token);
        Assert.Equal(record.Length, await lane.WaitForDurableAsync(0, Token));
    }

    [Fact]
    public async Task ManySessionsStoreAtOnce()
    {
        await using var world = await World.CreateAsync(options: new RepositoryOptions { PackBytesTarget = 20_000 });
        var points = Enumerable.Range(1, 6).Select(seed => world.NewMachine(seed).Point(1, [.. Enumerable.Range(seed * 20, 60)])).ToArray();
        await Task.WhenAll(points.Select(async point =>
        {
            await Task.Yield();
            await world.BackUpAsync(point);
        }));
        foreach (var point in points)
        {
            await world.AssertReadableAsync(point);
        }
        Assert.True((await world.VerifyAsync(open: true)).IsSound);
    }

    [Fact]
    public async Task ProbesAnswerForTheScopeThatStoredTheChunk()
    {
        await using var world = await World.CreateAsync();
        await using var session = world.Begin();
        await World.SendAsync(session, RecordKind.Data, [world.NewMachine(1).DataRecord(1)]);
        byte[] ids = [.. Machine.ChunkId(2).ToArray(), .. Machine.ChunkId(1).ToArray()];
        Assert.Equal([2], await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, ids));
        Assert.Equal([0], await World.ProbeAsync(world.Repository, RecordKind.Data, Machine.NameOf("scope", 2), ids));
        Assert.Equal([0], await World.ProbeAsync(world.Repository, RecordKind.Map, World.Scope, ids));
    }
}

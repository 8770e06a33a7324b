using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Tests.Collection;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Repository.Tests.Scrubbing;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Rebuilding;

public sealed class RebuildTests
{
    private static CancellationToken Token => World.Token;

    /// <summary>Whichever of two copies of a node is damaged, the other one is read.</summary>
    [Fact]
    public async Task ANodeIsReadFromAnyPackThatHoldsIt()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var point = machine.Point(1, [.. Enumerable.Range(1, 20)]);
        await using var first = world.Begin();
        await using var second = world.Begin();
        await world.UploadAsync(first, point);
        await World.SendAsync(second, RecordKind.Map, point.Nodes.Concat(machine.Point(2, [500, 501]).Nodes));
        await world.CommitAsync(first, point);
        var original = await world.DumpAsync();
        var packs = await MapPacksAsync(world);
        Assert.Equal(2, packs.Count);
        foreach (var pack in packs)
        {
            var bytes = await world.Store.ReadAllAsync(pack, Limits.PackBytesMax, Token);
            await world.ReplaceAsync(pack, [.. bytes.Select((value, at) => at == RecordHeader.Size + 20 ? (byte)(value ^ 1) : value)]);
            await using var rebuilt = await world.RebuildAsync();
            Assert.Empty(rebuilt.Repository.OpenReport.Problems);
            Assert.Equal(original, await rebuilt.DumpAsync());
            await world.ReplaceAsync(pack, bytes);
        }
    }

    [Fact]
    public async Task WhatIsMissingTakesOnlyThePointsThatNeedItAndIsNotCounted()
    {
        await using var first = await World.CreateAsync(options: new RepositoryOptions { PackBytesTarget = 30_000 });
        var points = new List<PointBytes>();
        for (var seed = 1; seed <= 3; seed++)
        {
            // What they share lies in one leaf, what each has alone in others.
            var point = first.NewMachine(seed).Point(1, [1, 2, 3, 4, .. Enumerable.Range(1000 * seed, 300)]);
            await first.BackUpAsync(point);
            points.Add(point);
        }
        var original = await first.DumpAsync();
        var lost = await first.FindPackAsync(Machine.ChunkId(2050));
        await first.Store.DeleteAsync(lost.Key, Token);
        await using var world = await first.RebuildAsync();
        foreach (var point in points)
        {
            Assert.Equal(point != points[1], (await world.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        }
        Assert.Equal(ObjectKeys.Manifest(points[1].Machine.Vm, points[1].Id), Assert.Single(world.Repository.OpenReport.Problems).ObjectKey);
        // The pack comes back: then nothing is missing, and nothing may be counted twice.
        Assert.True(await world.Store.PutAsync(lost.Key, lost.Pack, Token));
        await using var healed = await world.RestartAsync();
        await healed.Repository.Upkeep.SettleAsync(Token);
        Assert.Equal(original.Where(static line => !line.StartsWith("pack", StringComparison.Ordinal)), (await healed.DumpAsync()).Where(static line => !line.StartsWith("pack", StringComparison.Ordinal)));
        await CollectionTests.AssertCountsAsync(healed);
    }

    /// <summary>More records than a block of the spool holds, in the same bucket.</summary>
    [Fact]
    public async Task ManyRecordsAndReferencesAreSpooledAndFound()
    {
        await using var world = await World.CreateAsync(new SimulatedStore());
        var disk = Enumerable.Range(1, 30_000).Select(static at => at % 7000 == 0 ? 1 : at).ToArray();
        var machine = world.NewMachine(1);
        foreach (var number in new[] { 1, 2, 3 })
        {
            disk[number * 4000] = 50_000 + number;
            await world.BackUpAsync(machine.Point(number, disk));
        }
        await using var rebuilt = await world.RebuildAsync();
        Assert.Equal(await world.DumpAsync(), await rebuilt.DumpAsync());
        Assert.True((await rebuilt.Repository.AuditAsync(Token)).IsSound);
    }

    private static async Task<List<string>> MapPacksAsync(World world)
    {
        var packs = new List<string>();
        foreach (var key in await world.KeysAsync(ObjectKeys.PacksPrefix))
        {
            if (RecordHeader.Parse(await world.Store.ReadAllAsync(key, Limits.PackBytesMax, Token)).Kind == RecordKind.Map)
            {
                packs.Add(key);
            }
        }
        return packs;
    }
}

using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Tests.Collection;
using VirtBackup.Repository.Tests.Fixtures;

namespace VirtBackup.Repository.Tests.Scrubbing;

/// <summary>What is left of a point that lacks something is kept like any other.</summary>
public sealed class DamagedPointTests
{
    private static readonly int[] Disk = [.. Enumerable.Range(1, 60)];

    private static CancellationToken Token => World.Token;

    [Fact]
    public async Task AForgottenPointThatLacksSomethingComesBackAsItIs()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        await world.Repository.ForgetAsync(point.Id, Token);
        await world.HurtAsync(Machine.ChunkId(7));
        await world.ScrubAsync(open: true);
        await world.Repository.RecallAsync(point.Machine.Vm, point.Id, Token);
        Assert.False((await world.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        Assert.Empty(await world.Repository.ListForgottenAsync(Token));
        await CollectionTests.CollectForDaysAsync(world, 12);
        Assert.Equal(new ByteRange(6 * 4096, 4096), Assert.Single(await world.Repository.Upkeep.FindLossesAsync(point.Id, Token)).Range.Range);
        await world.ReadInFullAsync(point.Machine.Point(2, Disk));
        await world.AssertSoundAsync(point);
        await CollectionTests.AssertCountsAsync(world);
    }

    /// <summary>The commit's manifest is stored, the index was not told, and then something below it was lost.</summary>
    [Fact]
    public async Task ACommitOfUnknownOutcomeBecomesADamagedPoint()
    {
        await using var world = await World.CreateAsync();
        var (first, second) = (world.NewMachine(1).Point(1, Disk), world.NewMachine(1).Point(2, Disk));
        await world.BackUpAsync(first);
        await world.Index.WriteAsync(
            connection =>
            {
                using var pending = connection.Prepare("INSERT INTO pending_commit(point, vm, manifest, roots, created_ms) VALUES (?1, ?2, ?3, ?4, 1)");
                pending.Bind(1, second.Id).Bind(2, second.Machine.Vm).Bind(3, Format.Manifests.Manifest.Parse(second.Manifest).Hash).Bind(4, second.Root.ToArray()).Execute();
                using var count = connection.Prepare("UPDATE object SET count = count + 1 WHERE id = ?1 AND kind = 2");
                Assert.Equal(1, count.Bind(1, second.Root).Execute());
            },
            Token);
        Assert.True(await world.Store.PutAsync(ObjectKeys.Manifest(second.Machine.Vm, second.Id), second.Manifest, Token));
        await world.HurtAsync(Machine.ChunkId(7));
        await world.ScrubAsync(open: true);
        await world.Repository.CollectAsync(new CollectionOptions(), Token);
        Assert.False((await world.Repository.FindPointAsync(second.Id, Token))!.IsComplete);
        await world.ReadInFullAsync(world.NewMachine(1).Point(3, Disk));
        await world.AssertSoundAsync(first, second);
        await CollectionTests.AssertCountsAsync(world);
    }

    /// <summary>Without its manifest nobody knows what a point holds: all of it is lost.</summary>
    [Fact]
    public async Task APointWithoutManifestIsLostAsAWhole()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        await world.HurtAsync(Machine.ChunkId(7));
        await world.ScrubAsync(open: true);
        await world.ReplaceAsync(ObjectKeys.Manifest(point.Machine.Vm, point.Id), new byte[100]);
        var loss = Assert.Single(await world.Repository.Upkeep.FindLossesAsync(point.Id, Token));
        Assert.Equal((Id16.Empty, new ByteRange(0, 60 * 4096), false), (loss.Range.Stream, loss.Range.Range, loss.IsDoubtful));
    }
}

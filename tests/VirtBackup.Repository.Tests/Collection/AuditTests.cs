using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Collection;

public sealed class AuditTests
{
    private static CancellationToken Token => World.Token;

    [Fact]
    public async Task ASoundRepositoryIsCountedAsItIs()
    {
        await using var world = await MakeAsync();
        var report = await world.Repository.AuditAsync(Token);
        Assert.True(report.IsSound, report.Problem);
        Assert.Equal((2, 0), (report.Points, report.CountedTooOften));
        Assert.InRange(report.References, 100, 400);
    }

    [Fact]
    public async Task ACountThatIsTooLowStopsAllDeletion()
    {
        await using var world = await MakeAsync();
        await ChangeAsync(world, $"UPDATE object SET count = count - 1 WHERE kind = 1 AND count > 0 AND id = (SELECT min(id) FROM object WHERE kind = 1 AND count > 0)");
        var report = await world.Repository.AuditAsync(Token);
        Assert.Contains("is counted", report.Problem, StringComparison.Ordinal);
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CollectAsync(new CollectionOptions(), Token))).Reason);
        await using var rebuilt = await world.RebuildAsync();
        var collected = await rebuilt.Repository.CollectAsync(new CollectionOptions(), Token);
        Assert.True(collected.Audit!.IsSound);
    }

    [Fact]
    public async Task ACountThatIsTooHighIsSetRightWhenTwoAuditsAgree()
    {
        await using var world = await MakeAsync();
        await ChangeAsync(world, "UPDATE object SET count = count + 2 WHERE kind = 1 AND id = (SELECT max(id) FROM object WHERE kind = 1)");
        var first = await world.Repository.AuditAsync(Token);
        Assert.Equal((true, 1, 0), (first.IsSound, first.CountedTooOften, first.Repaired));
        var second = await world.Repository.AuditAsync(Token);
        Assert.Equal((true, 1, 1), (second.IsSound, second.CountedTooOften, second.Repaired));
        Assert.Equal(0, (await world.Repository.AuditAsync(Token)).CountedTooOften);
        await CollectionTests.AssertCountsAsync(world);
    }

    [Fact]
    public async Task AnObjectWithoutRowStopsAllDeletion()
    {
        await using var world = await MakeAsync();
        await ChangeAsync(world, "DELETE FROM object WHERE kind = 1 AND id = (SELECT max(id) FROM object WHERE kind = 1)");
        Assert.Contains("is not in the index", (await world.Repository.AuditAsync(Token)).Problem, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ANodeThatCannotBeReadStopsAllDeletion()
    {
        await using var world = await MakeAsync();
        foreach (var key in await world.KeysAsync(ObjectKeys.PacksPrefix))
        {
            var bytes = await world.Store.ReadAllAsync(key, Limits.PackBytesMax, Token);
            if (RecordHeader.Parse(bytes).Kind == RecordKind.Map)
            {
                bytes[RecordHeader.Size + 20] ^= 1;
                await world.ReplaceAsync(key, bytes);
            }
        }
        Assert.Contains("cannot be read", (await world.Repository.AuditAsync(Token)).Problem, StringComparison.Ordinal);
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CollectAsync(new CollectionOptions(), Token))).Reason);
    }

    [Fact]
    public async Task ADamagedNodeThatNothingNeedsStopsNothing()
    {
        await using var world = await World.CreateAsync(options: new RepositoryOptions { PackBytesTarget = 30_000 });
        var kept = world.NewMachine(1).Point(1, [.. Enumerable.Range(1, 90)]);
        await world.BackUpAsync(kept);
        var before = await world.KeysAsync(ObjectKeys.PacksPrefix);
        var lost = world.NewMachine(2).Point(1, [.. Enumerable.Range(300, 90)]);
        await world.BackUpAsync(lost);
        foreach (var key in (await world.KeysAsync(ObjectKeys.PacksPrefix)).Except(before))
        {
            var bytes = await world.Store.ReadAllAsync(key, Limits.PackBytesMax, Token);
            if (RecordHeader.Parse(bytes).Kind == RecordKind.Map)
            {
                bytes[RecordHeader.Size + 20] ^= 1;
                await world.ReplaceAsync(key, bytes);
            }
        }
        await world.Repository.ForgetAsync(lost.Id, Token);
        ((SetClock)world.Clock).Pass(TimeSpan.FromDays(40));
        Assert.False((await world.Repository.AuditAsync(Token)).IsSound);
        // The point goes before the audit, and then nothing needs the damaged nodes.
        var report = await world.Repository.CollectAsync(new CollectionOptions(), Token);
        Assert.NotEmpty(report.Problems);
        Assert.True(report.Audit!.IsSound, report.Audit.Problem);
        await world.AssertReadableAsync(kept);
    }

    [Fact]
    public async Task ManyCountsThatMayBeTooHighAreNoAlarm()
    {
        await using var world = await MakeAsync();
        await ChangeAsync(world, "UPDATE object SET count = count + 1 WHERE kind = 1");
        using var gate = new Gate();
        var report = await new Auditing.ReferenceAudit(world.Store, world.Index, gate, world.Clock, suspectsMax: 3).RunAsync(Token);
        Assert.True(report.IsSound, report.Problem);
    }

    [Fact]
    public async Task WhatACommitOfUnknownOutcomeHoldsIsNoExcess()
    {
        var fails = false;
        await using var world = await MakeAsync(new SimulatedStore(new SimulatedStoreOptions { Inject = step => fails && step.Step == SimulatedStep.GiveName ? FaultReason.Unavailable : null }));
        var third = world.NewMachine(3).Point(1, [.. Enumerable.Range(40, 40)]);
        await using (var session = world.Begin())
        {
            await world.UploadAsync(session, third);
            fails = true;
            await Assert.ThrowsAsync<FaultException>(async () => await world.CommitAsync(session, third));
            fails = false;
        }
        var report = await world.Repository.AuditAsync(Token);
        Assert.Equal((true, 0), (report.IsSound, report.CountedTooOften));
        // Nothing came of it, so a week later the commit is given up for good, and all it held goes.
        await CollectionTests.CollectForDaysAsync(world, 16);
        await CollectionTests.AssertNothingUnneededAsync(world, deadPercentMax: 30);
        await CollectionTests.AssertCountsAsync(world);
        await using var again = world.Begin();
        await world.UploadAsync(again, third);
        Assert.Equal(FaultReason.Fenced, (await Assert.ThrowsAsync<FaultException>(async () => await world.CommitAsync(again, third))).Reason);
    }

    private static async Task<World> MakeAsync(IObjectStore? store = null)
    {
        var world = await World.CreateAsync(store, options: new RepositoryOptions { PackBytesTarget = 30_000 });
        var machine = world.NewMachine(1);
        await world.BackUpAsync(machine.Point(1, [.. Enumerable.Range(1, 90)]));
        var second = machine.Point(2, [.. Enumerable.Range(1, 80), .. Enumerable.Range(200, 10)]);
        await world.BackUpAsync(second);
        await world.Repository.ForgetAsync(second.Id, Token);
        return world;
    }

    private static async Task ChangeAsync(World world, string sql) => await world.Index.WriteAsync(connection => connection.Execute(sql), Token);
}

using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests;

public sealed class CommitTests
{
    private static readonly int[] Disk = [.. Enumerable.Range(1, 300).Select(at => at % 7 == 0 ? 0 : at)];

    private static CancellationToken Token => World.Token;

    [Fact]
    public async Task ACommittedPointIsReadableAndItsNodesAnswerProbes()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, Disk, tail: 100);
        Assert.Equal(2, point.Geometry.Height);
        Assert.Equal([0], await World.ProbeAsync(world.Repository, RecordKind.Map, World.Scope, point.Root.ToArray()));
        var result = await world.BackUpAsync(point);
        Assert.Equal(Manifest.Parse(point.Manifest).Hash, result.ManifestHash);
        Assert.True(result.StoredBytes > point.Chunks.Sum(record => record.Length));
        Assert.Equal([1], await World.ProbeAsync(world.Repository, RecordKind.Map, World.Scope, point.Root.ToArray()));
        await world.AssertReadableAsync(point);
        Assert.Equal(point.Id, (await world.Repository.FindTipAsync(point.Machine.Vm, null, Token))!.Point);
    }

    [Fact]
    public async Task ACommitIsFinishedAlthoughItsCallerGoesAwayWhenTheManifestHasItsName()
    {
        using var call = CancellationTokenSource.CreateLinkedTokenSource(Token);
        await using var world = await World.CreateAsync(new SimulatedStore(new SimulatedStoreOptions
        {
            Inject = operation =>
            {
                if (operation.Step == SimulatedStep.SyncFolder && operation.Key!.StartsWith(ObjectKeys.RecoveryPointsPrefix, StringComparison.Ordinal))
                {
                    call.Cancel();
                }
                return null;
            },
        }));
        var point = world.NewMachine(1).Point(1, Disk);
        await using var session = world.Begin();
        await world.UploadAsync(session, point);
        await world.Repository.CommitAsync(session, point.Manifest, point.Expectation, KeylessLeafInspector.Instance, call.Token);
        Assert.True(call.IsCancellationRequested);
        await world.AssertReadableAsync(point);
    }

    [Fact]
    public async Task APointWithoutAnyChunkIsCommitted()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, new int[50]);
        Assert.True(point.Root.IsZero);
        await world.BackUpAsync(point);
        await world.AssertReadableAsync(point);
    }

    [Fact]
    public async Task ACommitIsRefusedForEachMissingChunkNodeAndKey()
    {
        var disk = Disk[..20];
        var whole = new Machine(World.Uuid, World.Scope, 1).Point(1, disk, at => at < 10 ? 1 : 2);
        var chunks = whole.Chunks.ToArray();
        var all = chunks.Length + whole.Nodes.Count + whole.Epochs.Length;
        for (var missing = 0; missing < all; missing++)
        {
            await using var world = await World.CreateAsync();
            await using var session = world.Begin();
            await World.SendAsync(session, RecordKind.Data, chunks.Where((_, at) => at != missing));
            await World.SendAsync(session, RecordKind.Map, whole.Nodes.Where((_, at) => chunks.Length + at != missing));
            for (var at = 0; at < whole.Epochs.Length; at++)
            {
                if (chunks.Length + whole.Nodes.Count + at != missing)
                {
                    await world.Repository.PutKeyAsync(whole.Machine.Key(whole.Epochs[at]), Token);
                }
            }
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await world.CommitAsync(session, whole));
            Assert.Equal(FaultReason.Incomplete, fault.Reason);
            Assert.Empty(await world.KeysAsync(ObjectKeys.RecoveryPointsPrefix));
            Assert.Null(await world.Repository.FindPointAsync(whole.Id, Token));
            // What was missing arrives: now it is accepted.
            await world.UploadAsync(session, whole);
            await world.CommitAsync(session, whole);
            await world.AssertReadableAsync(whole);
        }
        Assert.Equal(18 + 5 + 1 + 2, all);
    }

    [Fact]
    public async Task AChunkOfAnotherLengthOrScopeDoesNotCount()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, [1, 2]);
        await using var session = world.Begin();
        await world.UploadAsync(session, world.NewMachine(1).Point(1, [1]));
        await World.SendAsync(session, RecordKind.Data, [point.Machine.DataRecord(2, length: 4000)]);
        await World.SendAsync(session, RecordKind.Map, point.Nodes);
        var other = Machine.NameOf("scope", 2);
        await using (var elsewhere = world.Repository.BeginIngest(other, 1))
        {
            await World.SendAsync(elsewhere, RecordKind.Data, [point.Machine.DataRecord(2, otherScope: other)]);
        }
        Assert.Equal(FaultReason.Incomplete, (await Assert.ThrowsAsync<FaultException>(async () => await world.CommitAsync(session, point))).Reason);
    }

    [Fact]
    public async Task AnEpochThatTheManifestDoesNotListIsFoundInNewAndInSharedNodes()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var first = machine.Point(1, Disk, at => at < 150 ? 1 : 2);
        await using var session = world.Begin();
        await world.UploadAsync(session, first);
        foreach (var round in new[] { "new nodes", "shared nodes" })
        {
            var second = machine.Point(2, Disk, at => at < 150 ? 1 : 2) with { Epochs = [1] };
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await world.CommitAsync(session, second));
            Assert.Equal(FaultReason.Incomplete, fault.Reason);
            Assert.Contains(machine.Epoch(2).ToString(), fault.Message, StringComparison.Ordinal);
            if (round == "new nodes")
            {
                await world.CommitAsync(session, first);
            }
        }
    }

    [Fact]
    public async Task OnlyNewLeavesAreInspectedAndARefusalStopsTheCommit()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        await world.BackUpAsync(machine.Point(1, Disk));
        var changed = Disk.ToArray();
        changed[17] = 5000;
        var second = machine.Point(2, changed);
        await using var session = world.Begin();
        await world.UploadAsync(session, second);
        var inspector = new CountingInspector { Refuses = true };
        Assert.Equal(FaultReason.Denied, (await Assert.ThrowsAsync<FaultException>(async () => await world.CommitAsync(session, second, inspector))).Reason);
        Assert.Equal([0], await World.ProbeAsync(world.Repository, RecordKind.Map, World.Scope, second.Root.ToArray()));
        inspector = new CountingInspector();
        await world.CommitAsync(session, second, inspector);
        Assert.Equal(1, inspector.Leaves);
        await world.AssertReadableAsync(second);
    }

    [Fact]
    public async Task ANodeIsNotTakenForCompleteAtAPlaceOfAnotherLength()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var shorter = machine.Point(1, [1, 2, 3, 4], tail: 1000);
        await world.BackUpAsync(shorter);
        // The same leaf, now naming a last chunk of 4096 bytes, which was never stored.
        var longer = machine.Point(2, [1, 2, 3, 4]);
        Assert.Equal(shorter.Root, longer.Root);
        await using var session = world.Begin();
        Assert.Equal(FaultReason.Incomplete, (await Assert.ThrowsAsync<FaultException>(async () => await world.CommitAsync(session, longer))).Reason);
        await world.UploadAsync(session, longer);
        await world.CommitAsync(session, longer);
        await world.AssertReadableAsync(longer);
        await world.AssertReadableAsync(shorter);
    }

    [Fact]
    public async Task TheSameManifestMayBeCommittedTwiceAnotherOneNot()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, Disk);
        var first = await world.BackUpAsync(point);
        await using var session = world.Begin();
        Assert.Equal(first.ManifestHash, (await world.CommitAsync(session, point)).ManifestHash);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CommitAsync(
            session, Machine.Seal(point.Head, salt: 1), point.Expectation, KeylessLeafInspector.Instance, Token));
        Assert.Equal(FaultReason.AlreadyExists, fault.Reason);
    }

    public static TheoryData<string> Fields => ["vm", "lineage", "point", "generation", "attempt", "sequence", "created", "previous", "base", "agent", "scope", "repository"];

    [Theory]
    [MemberData(nameof(Fields))]
    public async Task AManifestThatDiffersFromWhatTheSessionWasToldIsRefused(string field)
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, [1]);
        await using var session = world.Begin();
        await world.UploadAsync(session, point);
        var (other, hash) = (Machine.NameOf("other", 1), Machine.ChunkId(1));
        var head = field switch
        {
            "vm" => point.Head with { Vm = other },
            "lineage" => point.Head with { Lineage = other },
            "point" => point.Head with { Point = other },
            "generation" => point.Head with { Generation = 9 },
            "attempt" => point.Head with { Attempt = 9 },
            "sequence" => point.Head with { Sequence = 9 },
            "created" => point.Head with { CreatedMs = 9 },
            "previous" => point.Head with { PreviousManifest = hash },
            "base" => point.Head with { BaseManifest = hash },
            "agent" => point.Head with { AgentKeyId = other },
            "scope" => point.Head with { Scope = other },
            _ => point.Head with { Repository = other },
        };
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CommitAsync(
            session, Machine.Seal(head), point.Expectation, KeylessLeafInspector.Instance, Token));
        Assert.Equal(FaultReason.FailedPrecondition, fault.Reason);
        Assert.Empty(await world.KeysAsync(ObjectKeys.RecoveryPointsPrefix));
    }

    [Fact]
    public async Task ACommitThatWasGivenUpForGoodIsFenced()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, [1]);
        await using var session = world.Begin();
        await world.UploadAsync(session, point);
        await world.Store.PutAsync(ObjectKeys.Manifest(point.Machine.Vm, point.Id), new AbortTombstone(point.Machine.Vm, point.Id, 1, 1).ToBytes(), Token);
        Assert.Equal(FaultReason.Fenced, (await Assert.ThrowsAsync<FaultException>(async () => await world.CommitAsync(session, point))).Reason);
        await using var rebuilt = await world.RebuildAsync();
        Assert.Empty(await rebuilt.Repository.ListPointsAsync(null, Token));
        Assert.Empty(rebuilt.Repository.OpenReport.Problems);
    }

    [Fact]
    public async Task AKeyObjectOfAnotherRepositoryOrWithOtherBytesIsRefused()
    {
        await using var world = await World.CreateAsync();
        var foreign = new Machine(Machine.NameOf("repository", 2), World.Scope, 1);
        Assert.Equal(FaultReason.Denied, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.PutKeyAsync(foreign.Key(1), Token))).Reason);
        var machine = world.NewMachine(1);
        await world.Repository.PutKeyAsync(machine.Key(1), Token);
        await world.Repository.PutKeyAsync(machine.Key(1), Token);
        var other = (Format.Keys.KeyObject.Parse(machine.Key(1)) with { Sealed = Enumerable.Repeat((byte)1, 60).ToArray() }).ToBytes();
        Assert.Equal(FaultReason.AlreadyExists, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.PutKeyAsync(other, Token))).Reason);
        Assert.Equal(machine.Key(1), Assert.Single(await world.Repository.ReadKeysAsync(machine.Vm, machine.Epoch(1), Token)).ToArray());
    }

    [Fact]
    public async Task AnAgentsPublicKeyIsKeptUnderItsId()
    {
        await using var world = await World.CreateAsync();
        byte[] key = [1, 2, 3, 4];
        var id = await world.Repository.PutAgentKeyAsync(key, Token);
        Assert.Equal(id, await world.Repository.PutAgentKeyAsync(key, Token));
        Assert.Equal(key, await world.Repository.ReadAgentKeyAsync(id, Token));
        await world.ReplaceAsync(ObjectKeys.Agent(id), [1, 2, 3, 5]);
        Assert.Equal(FaultReason.Corrupt, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.ReadAgentKeyAsync(id, Token))).Reason);
        Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.ReadAgentKeyAsync(Machine.NameOf("x", 1), Token))).Reason);
    }

    private sealed class CountingInspector : ILeafInspector
    {
        public bool Refuses { get; init; }

        public int Leaves { get; private set; }

        public ValueTask InspectAsync(Id16 vm, MapLeaf leaf, CancellationToken cancellationToken)
        {
            Leaves++;
            return Refuses ? throw new FaultException(FaultReason.Denied, "Refused.") : ValueTask.CompletedTask;
        }
    }
}

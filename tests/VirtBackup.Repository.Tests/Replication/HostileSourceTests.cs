using VirtBackup.Core;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Replication;
using VirtBackup.Repository.Tests.Fixtures;

namespace VirtBackup.Repository.Tests.Replication;

/// <summary>A source that sends something else than it was asked for gets nothing listed, and does no harm to what comes later.</summary>
public sealed class HostileSourceTests
{
    private static readonly int[] Disk = [.. Enumerable.Range(1, 40)];

    private static CancellationToken Token => World.Token;

    public static TheoryData<string> Lies() =>
    [
        "less chunks", "a chunk twice", "another chunk", "a chunk of another length", "a chunk of another scope", "a node that is not its id", "a node at another's place",
        "nodes in another order", "less nodes", "nothing", "a cut record", "noise", "another manifest", "no manifest", "another agent's key", "a long agent's key", "no key object",
        "another machine's key object", "another repository's key object", "too many key objects", "a bad signature",
    ];

    [Theory]
    [MemberData(nameof(Lies))]
    public async Task NothingIsListedOfAPointThatWasLiedAbout(string lie)
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        var machine = Sites.MachineOf(1);
        var (point, other) = (machine.Point(1, Disk), machine.Point(2, [.. Disk.Reverse()]));
        await there.BackUpAsync(point);
        await there.BackUpAsync(other);
        var source = Liar(there, lie, machine, other);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await here.PullAsync(source, point));
        Assert.True(fault.Reason is FaultReason.Malformed or FaultReason.Corrupt, fault.Message);
        Assert.Contains("was not pulled from another site", fault.Message, StringComparison.Ordinal);
        Assert.Equal(0, source.Held);
        Assert.Empty(await here.Repository.ListPointsAsync(null, Token));
        await here.PullAsync(new PullSource(there.Repository), point);
        await here.PullAsync(new PullSource(there.Repository), other);
        await here.AssertWholeAsync(point, other);
    }

    [Fact]
    public async Task AnotherManifestOfAPointThatIsHereIsRefused()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        var point = Sites.MachineOf(1).Point(1, Disk);
        await there.BackUpAsync(point);
        await here.PullAsync(new PullSource(there.Repository), point);
        var hash = Machine.ChunkId(5);
        var wish = new ReplicaWish(point.Machine.Vm, point.Id, hash);
        // It says that it has another one, and has not.
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await here.Repository.PullAsync(new PullSource(there.Repository), wish, Sites.Options(), Token));
        Assert.Equal(FaultReason.Malformed, fault.Reason);
        var forged = Machine.Seal(point.Head, salt: 9);
        var source = new PullSource(there.Repository) { ChangePoint = replica => replica with { Manifest = forged } };
        wish = wish with { ManifestHash = Format.Manifests.Manifest.Parse(forged).Hash };
        fault = await Assert.ThrowsAsync<FaultException>(async () => await here.Repository.PullAsync(source, wish, Sites.Options(), Token));
        Assert.Equal(FaultReason.AlreadyExists, fault.Reason);
        await here.AssertWholeAsync(point);
    }

    /// <summary>Records under it would answer this repository's own probes, and nobody without keys can tell what is in them.</summary>
    [Fact]
    public async Task AForeignPointMayNotNameAScopeOfThisRepository()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        var point = Sites.MachineOf(1).Point(1, Disk);
        await there.BackUpAsync(point);
        var forged = Machine.Seal(point.Head with { Scope = Sites.UuidOf(2) }, salt: 9);
        var source = new PullSource(there.Repository) { ChangePoint = replica => replica with { Manifest = forged } };
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await here.PullAsync(source, point));
        Assert.Equal(FaultReason.Malformed, fault.Reason);
        Assert.Contains("names a scope of this one", fault.Message, StringComparison.Ordinal);
        Assert.Empty(await here.Repository.ListPointsAsync(null, Token));
    }

    [Fact]
    public async Task KeysOfTwoRepositoriesAreNotMixedInOneEpoch()
    {
        await using var here = await Sites.CreateAsync(2);
        var own = Sites.MachineOf(2).Key(1);
        await here.Repository.PutKeyAsync(own, Token);
        var foreign = Format.Keys.KeyObject.Parse(own) with { Repository = Sites.UuidOf(1), Recipient = Machine.NameOf("recipient", 2) };
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await here.Repository.PutKeyAsync(foreign.ToBytes(), Token));
        Assert.Equal(FaultReason.Denied, fault.Reason);
        fault = await Assert.ThrowsAsync<FaultException>(async () => await here.Repository.PutKeyAsync(foreign.ToBytes(), Sites.UuidOf(1), Token));
        Assert.Equal(FaultReason.Denied, fault.Reason);
        await here.Repository.PutKeyAsync(Sites.MachineOf(1).Key(1), Sites.UuidOf(1), Token);
    }

    private static PullSource Liar(World there, string lie, Machine machine, PointBytes other)
    {
        var source = new PullSource(there.Repository);
        switch (lie)
        {
            case "less chunks":
                source.ChangeRecords = OnData(static records => records[1..]);
                break;
            case "a chunk twice":
                source.ChangeRecords = OnData(static records => [.. records, records[0]]);
                break;
            case "another chunk":
                source.ChangeRecords = OnData(records => [machine.DataRecord(77), .. records[1..]]);
                break;
            case "a chunk of another length":
                source.ChangeRecords = OnData(records => [machine.DataRecord(1, 4095), .. records[1..]]);
                break;
            case "a chunk of another scope":
                source.ChangeRecords = OnData(records => [.. records.Select(record => RecordHeader.Parse(record).Id == Machine.ChunkId(3) ? machine.DataRecord(3, otherScope: World.Scope) : record)]);
                break;
            case "a node that is not its id":
                source.ChangeRecords = OnNodes(static records =>
                {
                    records[0][^1] ^= 1;
                    return records;
                });
                break;
            case "a node at another's place":
                // The root of a shorter disk, under the name that the manifest gives to another.
                source.ChangePoint = replica => replica with { Manifest = WithRootOf(machine.Point(1, Disk), machine.Point(1, [.. Disk.Take(9)])) };
                source.AnswerNodes = _ => [machine.Point(1, [.. Disk.Take(9)]).Nodes[^1]];
                break;
            case "nodes in another order":
                source.ChangeRecords = OnNodes(static records => [.. records.AsEnumerable().Reverse()]);
                break;
            case "less nodes":
                source.ChangeRecords = OnNodes(static records => records.Count > 1 ? records[..^1] : records);
                break;
            case "nothing":
                source.ChangeRecords = static _ => [];
                break;
            case "a cut record":
                source.CutBytes = 5;
                break;
            case "noise":
                source.ChangeRecords = OnData(static records => [new byte[100], .. records]);
                break;
            default:
                source.ChangePoint = replica => Lie(lie, replica, machine, other);
                break;
        }
        return source;
    }

    private static ReplicaPoint Lie(string lie, ReplicaPoint replica, Machine machine, PointBytes other) => lie switch
    {
        "another manifest" => replica with { Manifest = other.Manifest },
        "no manifest" => replica with { Manifest = new byte[10] },
        "another agent's key" => replica with { AgentPublicKey = "agent 2"u8.ToArray() },
        "a long agent's key" => replica with { AgentPublicKey = new byte[2000] },
        "no key object" => replica with { KeyObjects = [] },
        "another machine's key object" => replica with { KeyObjects = [Sites.MachineOf(1, 5).Key(1)] },
        "another repository's key object" => replica with { KeyObjects = [(Format.Keys.KeyObject.Parse(machine.Key(1)) with { Repository = Sites.UuidOf(3) }).ToBytes()] },
        "too many key objects" => replica with { KeyObjects = [.. Enumerable.Repeat(replica.KeyObjects[0], 9)] },
        "a bad signature" => replica with { Manifest = Forge(replica.Manifest.ToArray()) },
        _ => throw new InvalidOperationException(lie),
    };

    private static byte[] Forge(byte[] manifest)
    {
        manifest[^(32 + 64)] ^= 1;
        System.Security.Cryptography.SHA256.HashData(manifest.AsSpan(0, manifest.Length - 32)).CopyTo(manifest.AsSpan(manifest.Length - 32));
        return manifest;
    }

    private static byte[] WithRootOf(PointBytes point, PointBytes other) =>
        Machine.Seal(point.Head with { Streams = [point.Head.Streams[0] with { Root = other.Root }] });

    private static Func<List<byte[]>, List<byte[]>> OnData(Func<List<byte[]>, List<byte[]>> change) => On(RecordKind.Data, change);

    private static Func<List<byte[]>, List<byte[]>> OnNodes(Func<List<byte[]>, List<byte[]>> change) => On(RecordKind.Map, change);

    private static Func<List<byte[]>, List<byte[]>> On(RecordKind kind, Func<List<byte[]>, List<byte[]>> change) =>
        records => records.Count > 0 && RecordHeader.Parse(records[0]).Kind == kind ? change(records) : records;
}

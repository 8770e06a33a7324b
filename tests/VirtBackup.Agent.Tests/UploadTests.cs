using CsCheck;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Agent.Upload;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Protocol.Store.V1;
using RecordKind = VirtBackup.Protocol.Store.V1.RecordKind;

namespace VirtBackup.Agent.Tests;

public sealed class UploadTests
{
    [Fact]
    public void BrokenLinksAndForgottenSessionsLoseAndRepeatNothing() =>
        Gen.Select(Gen.Int[1, 1 << 20], Gen.Long[0, 1 << 20].Array[0, 8], Gen.Bool, Gen.Bool, Gen.Long[100_000, 900_000], Gen.Int[0, 3]).Sample(
            (seed, breaks, forget, loseAcks, durableAt, unavailable) =>
            {
                using var rig = new Rig(seed, Rig.RandomBytes(seed, 4 << 20));
                rig.Store.Faults.BreakUploads(breaks);
                (rig.Store.Faults.ForgetOnBreak, rig.Store.Faults.LoseAcks, rig.Store.Faults.DurableAtBytes) = (forget, loseAcks, durableAt);
                rig.Store.Faults.CreditBytes = 1 << 20;
                rig.Hypervisor.OnRead = offset =>
                {
                    if (offset == 1 << 20)
                    {
                        rig.Store.Faults.FailCalls(unavailable);
                    }
                    return Task.CompletedTask;
                };
                RunAsync(rig, forget && loseAcks, breaks.Length).GetAwaiter().GetResult();
            },
            iter: 40, threads: 1);

    private static async Task RunAsync(Rig rig, bool mayRepeat, int breaks)
    {
        var result = await rig.BackupAsync();
        await rig.RequireRestorableAsync(result.PointId);
        Assert.Equal(["commit"], rig.Hypervisor.Ends);
        if (!mayRepeat)
        {
            // Forgotten sessions may repeat acknowledgements that were still under way, nothing else.
            Assert.InRange(rig.Store.DataRecords.Count, 16, 16 + (breaks * 4));
        }
        Assert.InRange(result.BytesSent, 4UL << 20, (4UL << 20) + (ulong)((breaks + 1) * (2 << 20)));
    }

    [Fact]
    public async Task AControllerRestartBeforeTheFirstByteIsNoticed()
    {
        using var rig = new Rig(1, Rig.RandomBytes(1, 1 << 20));
        var begun = false;
        rig.Store.Faults.OnBegun = () =>
        {
            if (!begun)
            {
                begun = true;
                rig.Store.ForgetSessions();
            }
        };
        var result = await rig.BackupAsync();
        Assert.Equal(2, rig.Store.SessionsBegun);
        await rig.RequireRestorableAsync(result.PointId);
    }

    [Fact]
    public async Task ResumedStreamsSendOnlyWhatIsNotDurable()
    {
        using var rig = new Rig(2, Rig.RandomBytes(2, 4 << 20));
        rig.Store.Faults.BreakUploads([1 << 20, 1 << 20, 1 << 20, 1 << 20]);
        rig.Store.Faults.DurableAtBytes = 300_000;
        await rig.BackupAsync();
        Assert.Equal(16, rig.Store.DataRecords.Count);
    }

    [Theory]
    [InlineData(1 << 20, 1 << 20)]
    [InlineData(1 << 20, 100 << 20)]
    [InlineData(100 << 10, 100 << 20)]
    public async Task ALaneMovesWithAControllerThatStoresOnFlushOnly(int creditOrAll, long retained)
    {
        var entropy = new SeededEntropy(3);
        using var signer = System.Security.Cryptography.ECDsa.Create(System.Security.Cryptography.ECCurve.NamedCurves.nistP256);
        using var store = new FakeStore(entropy, signer);
        store.Faults.CreditBytes = creditOrAll;
        store.Faults.DurableAtBytes = long.MaxValue;
        var session = await store.BeginSessionAsync(new BeginSessionRequest { PointId = "p" }, CancellationToken.None);
        using var lane = new UploadLane(1, RecordKind.Map, retained);
        lane.Attach(session.Lanes[1], resumed: false);
        using var loops = new LoopGroup(CancellationToken.None);
        loops.Start(token => lane.RunAsync(store, session.SessionId, new RunProgress(), token));
        // Two writers that meet at the bound must not wait for each other.
        var writers = 2;
        for (var writer = 0; writer < 2; writer++)
        {
            var seed = writer;
            loops.Start(async token =>
            {
                for (var i = 0; i < 100; i++)
                {
                    await lane.AppendAsync(NodeRecord((seed * 1000) + i, 50_000), token);
                }
                if (Interlocked.Decrement(ref writers) == 0)
                {
                    lane.Complete();
                }
            });
        }
        await loops.WhenAllAsync().WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
        Assert.Equal(200, store.NodeRecords.Distinct().Count());
        Assert.Equal(200, store.NodeRecords.Count);
    }

    [Fact]
    public async Task TheLastWaitingWriterAsksForAFlush()
    {
        var entropy = new SeededEntropy(4);
        using var signer = System.Security.Cryptography.ECDsa.Create(System.Security.Cryptography.ECCurve.NamedCurves.nistP256);
        using var store = new FakeStore(entropy, signer);
        store.Faults.DurableAtBytes = long.MaxValue;
        var session = await store.BeginSessionAsync(new BeginSessionRequest { PointId = "p" }, CancellationToken.None);
        using var lane = new UploadLane(1, RecordKind.Map, 100_000);
        lane.Attach(session.Lanes[1], resumed: false);
        using var loops = new LoopGroup(CancellationToken.None);
        loops.Start(token => lane.RunAsync(store, session.SessionId, new RunProgress(), token));
        await lane.AppendAsync(NodeRecord(1, 60_000), CancellationToken.None);
        await lane.AppendAsync(NodeRecord(2, 60_000), CancellationToken.None).AsTask().WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
        await lane.FlushAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
        Assert.Equal(2, store.NodeRecords.Count);
        lane.Complete();
        await loops.WhenAllAsync();
    }

    [Fact]
    public async Task ALaneThatFillsPacksAsksForNoFlushUntilItsEnd()
    {
        var entropy = new SeededEntropy(5);
        using var signer = System.Security.Cryptography.ECDsa.Create(System.Security.Cryptography.ECCurve.NamedCurves.nistP256);
        using var store = new FakeStore(entropy, signer);
        store.Faults.DurableAtBytes = 1_000_000;
        var session = await store.BeginSessionAsync(new BeginSessionRequest { PointId = "p" }, CancellationToken.None);
        using var lane = new UploadLane(1, RecordKind.Map, 1_100_000, packBytes: 1_000_000);
        lane.Attach(session.Lanes[1], resumed: false);
        using var loops = new LoopGroup(CancellationToken.None);
        loops.Start(token => lane.RunAsync(store, session.SessionId, new RunProgress(), token));
        for (var i = 0; i < 100; i++)
        {
            await lane.AppendAsync(NodeRecord(i, 50_000), CancellationToken.None).AsTask().WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
        }
        Assert.Equal(0, store.Faults.FlushesAsked);
        lane.Complete();
        await loops.WhenAllAsync().WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
        Assert.Equal(100, store.NodeRecords.Count);
    }

    private static byte[] NodeRecord(int seed, int length)
    {
        var node = Rig.RandomBytes(seed, length);
        var header = RecordHeader.ForNode(NodeId.Compute(node), length);
        var record = new byte[header.RecordLength];
        header.Write(record);
        node.CopyTo(record, RecordHeader.Size);
        return record;
    }
}

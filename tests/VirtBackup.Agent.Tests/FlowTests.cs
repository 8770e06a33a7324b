using CsCheck;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Records;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Agent.Upload;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;

namespace VirtBackup.Agent.Tests;

public sealed class FlowTests
{
    [Fact]
    public async Task ASignalAfterACancelledWaitIsKept()
    {
        var signal = new AsyncSignal();
        using var cancel = new CancellationTokenSource();
        var waiting = signal.WaitAsync(cancel.Token).AsTask();
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        signal.Set();
        Assert.True(signal.WaitAsync(CancellationToken.None).AsTask().IsCompletedSuccessfully);
        var next = signal.WaitAsync(CancellationToken.None).AsTask();
        Assert.False(next.IsCompleted);
        signal.Set();
        await next.WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task ACancelledTakerLetsTheNextOneIn()
    {
        var budget = new ByteBudget(10);
        await budget.TakeAsync(5, CancellationToken.None);
        using var cancel = new CancellationTokenSource();
        var large = budget.TakeAsync(10, cancel.Token).AsTask();
        var small = budget.TakeAsync(3, CancellationToken.None).AsTask();
        Assert.False(small.IsCompleted);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => large);
        await small.WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task LoopsStartedByLoopsAreAwaited()
    {
        using var loops = new LoopGroup(CancellationToken.None);
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var started = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var ended = false;
        var begin = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        loops.Start(async _ =>
        {
            await begin.Task;
            loops.Start(async _ =>
            {
                started.SetResult();
                await gate.Task;
                ended = true;
            });
        });
        var all = loops.WhenAllAsync();
        begin.SetResult();
        await started.Task.WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
        Assert.False(all.IsCompleted);
        gate.SetResult();
        await all;
        Assert.True(ended);
    }

    [Fact]
    public void BudgetsGiveInOrderAndNeverTooMuch() =>
        Gen.Int[1, 50].Array[1, 40].Sample(takes =>
        {
            var budget = new ByteBudget(50);
            var waiting = new Queue<(int Count, Task Task)>(takes.Select(count => (count, budget.TakeAsync(count, CancellationToken.None).AsTask())));
            while (waiting.TryPeek(out var first))
            {
                // Only what the first one waits for can be given back, so a wrong order would never end.
                Assert.True(first.Task.Wait(TimeSpan.FromSeconds(10)));
                Assert.InRange(waiting.Where(take => take.Task.IsCompleted).Sum(take => take.Count), 1, 50);
                waiting.Dequeue();
                budget.Return(first.Count);
            }
        });

    [Fact]
    public void RetainedBytesComeBackAsTheyWereAndStayBounded() =>
        Gen.Select(Gen.Int[1, 1000], Gen.Int[1, 90_000].Array[1, 30]).Sample((seed, lengths) =>
        {
            const int Max = 200_000;
            using var bytes = new RetainedBytes(Max);
            var all = Rig.RandomBytes(seed, lengths.Sum());
            var random = new Random(seed);
            var start = 0;
            foreach (var length in lengths)
            {
                var append = bytes.AppendAsync(all.AsMemory(start, length), CancellationToken.None).AsTask();
                while (!append.IsCompleted)
                {
                    Assert.True(bytes.End - bytes.Durable + length > Max);
                    bytes.Release(random.NextInt64(bytes.Durable, bytes.End + 1));
                    SpinWait.SpinUntil(() => append.IsCompleted || bytes.End - bytes.Durable + length > Max);
                }
                start += length;
                Assert.True(bytes.End - bytes.Durable <= Max);
                for (var offset = bytes.Durable; offset < bytes.End;)
                {
                    var slice = bytes.Peek(offset);
                    Assert.True(slice.Span.SequenceEqual(all.AsSpan((int)offset, slice.Length)));
                    offset += slice.Length;
                }
            }
            Assert.Throws<FaultException>(() => bytes.Release(bytes.End + 1));
        });

    [Fact]
    public void RecordsSurviveAnyCutting() =>
        Gen.Select(Gen.Int[1, 1000], Gen.Int[1, 3000].Array[0, 8], Gen.Int[1, 400]).Sample((seed, lengths, cut) =>
        {
            var records = lengths.Select((length, index) => Record(seed + index, length)).ToArray();
            var wire = records.SelectMany(record => record).ToArray();
            var read = ReadAsync(wire, cut).GetAwaiter().GetResult();
            Assert.Equal(records.Length, read.Count);
            Assert.All(records.Zip(read), pair => Assert.Equal(pair.First, pair.Second));
            if (wire.Length > 0)
            {
                Assert.Equal(FaultReason.Malformed, Assert.Throws<FaultException>(() => ReadAsync(wire[..^1], cut).GetAwaiter().GetResult()).Reason);
                wire[seed % RecordHeader.Size] ^= 4;
                Assert.Equal(FaultReason.Malformed, Assert.Throws<FaultException>(() => ReadAsync(wire, cut).GetAwaiter().GetResult()).Reason);
            }
        });

    [Fact]
    public async Task A_record_longer_than_its_buffer_is_refused_before_it_is_taken()
    {
        var refused = await Assert.ThrowsAsync<FaultException>(() => ReadAsync(Record(1, RecordBytesMax), 100));
        Assert.Equal(FaultReason.Malformed, refused.Reason);
    }

    private const int RecordBytesMax = RecordHeader.Size + RecordHeader.SealingBytes + 3000;

    private static async Task<List<byte[]>> ReadAsync(byte[] wire, int cut)
    {
        var slices = wire.Chunk(cut).Select(slice => (ReadOnlyMemory<byte>)slice).ToAsyncEnumerable();
        var read = new List<byte[]>();
        var buffers = new ChunkBuffers(1, RecordBytesMax);
        await foreach (var record in RecordStream.ReadAsync(slices, RecordKind.Map, buffers, CancellationToken.None))
        {
            using (record)
            {
                read.Add(record.Bytes.ToArray());
            }
        }
        return read;
    }

    private static byte[] Record(int seed, int length)
    {
        var node = Rig.RandomBytes(seed, length);
        var header = RecordHeader.ForNode(NodeId.Compute(node), length);
        var record = new byte[header.RecordLength];
        header.Write(record);
        node.CopyTo(record, RecordHeader.Size);
        return record;
    }
}

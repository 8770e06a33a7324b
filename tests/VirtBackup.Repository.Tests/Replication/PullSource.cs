using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Reading;
using VirtBackup.Repository.Replication;
using VirtBackup.Repository.Tests.Fixtures;

namespace VirtBackup.Repository.Tests.Replication;

/// <summary>
/// Another repository as a source, whose answers come one after another in the order of calls, as over one connection. It counts what it
/// sends, is cut off where a test says so, and lies when told to.
/// </summary>
internal sealed class PullSource(BackupRepository repository) : IReplicaSource
{
    private readonly Dictionary<Id16, (IDisposable Hold, RecoveryPointReader Reader)> _points = [];
    private readonly Lock _sync = new();
    private Task _before = Task.CompletedTask;

    public string Name => "another site";

    /// <summary>Bytes of a slice; not a divisor of any record.</summary>
    public int SliceBytes { get; init; } = 1000;

    /// <summary>Called before each slice; may fail.</summary>
    public Func<Task>? BeforeSlice { get; set; }

    public Func<ReplicaPoint, ReplicaPoint>? ChangePoint { get; set; }

    /// <summary>What an answer's records become.</summary>
    public Func<List<byte[]>, List<byte[]>>? ChangeRecords { get; set; }

    /// <summary>Makes the answer to a call for nodes, whatever the repository has.</summary>
    public Func<IReadOnlyList<Id32>, List<byte[]>>? AnswerNodes { get; set; }

    /// <summary>Bytes that are left out at the end of every answer.</summary>
    public int CutBytes { get; set; }

    public int PointCalls { get; private set; }

    public int NodeCalls { get; private set; }

    public int RecordCalls { get; private set; }

    public int Held => _points.Count;

    public long SentBytes { get; private set; }

    /// <summary>The ids of records that were taken whole.</summary>
    public List<Id32> Taken { get; } = [];

    public async ValueTask<ReplicaPoint> ReadPointAsync(Id16 point, CancellationToken cancellationToken)
    {
        PointCalls++;
        await StepAsync(cancellationToken);
        var replica = await repository.Serving.ReadPointAsync(point, cancellationToken);
        _points.Add(point, (repository.HoldPoint(point), await repository.Serving.OpenAsync(point, cancellationToken)));
        replica = ChangePoint?.Invoke(replica) ?? replica;
        SentBytes += replica.Manifest.Length + replica.KeyObjects.Sum(key => key.Length) + replica.AgentPublicKey.Length;
        return replica;
    }

    public ValueTask ReleaseAsync(Id16 point, CancellationToken cancellationToken)
    {
        if (_points.Remove(point, out var held))
        {
            held.Hold.Dispose();
        }
        return ValueTask.CompletedTask;
    }

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadNodesAsync(Id16 point, IReadOnlyList<Id32> ids, CancellationToken cancellationToken)
    {
        NodeCalls++;
        Assert.InRange(ids.Count, 1, IReplicaSource.NodeIdsMax);
        Assert.Equal(ids.Count, ids.Distinct().Count());
        return AnswerAsync(
            async reader => AnswerNodes?.Invoke(ids) ?? World.Split(await World.CollectAsync(reader.ReadNodesAsync(ids, cancellationToken))), point, cancellationToken);
    }

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadRecordsAsync(Id16 point, Id16 stream, IReadOnlyList<ByteRange> ranges, CancellationToken cancellationToken)
    {
        RecordCalls++;
        Assert.InRange(ranges.Count, 1, RecoveryPointReader.RangesMax);
        return AnswerAsync(
            async reader => World.Split(await World.CollectAsync(reader.ReadRecordsAsync(stream, ranges, cancellationToken))), point, cancellationToken);
    }

    private async IAsyncEnumerable<ReadOnlyMemory<byte>> AnswerAsync(
        Func<RecoveryPointReader, Task<List<byte[]>>> read, Id16 point, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var mine = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task before;
        lock (_sync)
        {
            (before, _before) = (_before, mine.Task);
        }
        try
        {
            await before.WaitAsync(cancellationToken);
            var records = await read(_points[point].Reader);
            records = ChangeRecords?.Invoke(records) ?? records;
            var bytes = records.SelectMany(record => record).ToArray();
            var slice = new byte[SliceBytes];
            var (taken, end) = (0, 0L);
            for (var at = 0; at < bytes.Length - CutBytes; at += SliceBytes)
            {
                await StepAsync(cancellationToken);
                var count = Math.Min(SliceBytes, bytes.Length - CutBytes - at);
                bytes.AsSpan(at, count).CopyTo(slice);
                SentBytes += count;
                yield return slice.AsMemory(0, count);
                // It is no longer the receiver's.
                slice.AsSpan().Fill(0xEE);
                while (taken < records.Count && end + records[taken].Length <= at + count)
                {
                    end += records[taken].Length;
                    Taken.Add(RecordHeader.Parse(records[taken++]).Id);
                }
            }
        }
        finally
        {
            mine.SetResult();
        }
    }

    private async ValueTask StepAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (BeforeSlice is { } hook)
        {
            await hook();
        }
    }
}

/// <summary>Two sites, and what one does to take from another.</summary>
internal static class Sites
{
    public static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 25_000 };

    private static readonly HashSignatures Signatures = new();

    public static Id16 UuidOf(int site) => Machine.NameOf("site", site);

    public static async ValueTask<World> CreateAsync(int site, RepositoryOptions? options = null, IObjectStore? store = null, SetClock? clock = null)
    {
        var world = await World.CreateAsync(store, options, clock, UuidOf(site));
        await world.Repository.PutAgentKeyAsync(Machine.AgentKey, World.Token);
        return world;
    }

    /// <summary>A machine that is backed up at a site.</summary>
    public static Machine MachineOf(int site, int number = 0) => new(UuidOf(site), UuidOf(site), (site * 100) + number);

    public static ReplicaOptions Options(IProgress<ReplicaProgress>? progress = null) => new()
    {
        Verify = async (manifest, key, token) =>
        {
            Assert.Equal(Machine.AgentKey, key.ToArray());
            await Signatures.VerifyAsync(manifest, token);
        },
        Progress = progress,
    };

    public static ValueTask<ReplicaReport> PullAsync(this World world, IReplicaSource source, PointBytes point) =>
        world.Repository.PullAsync(source, new ReplicaWish(point.Machine.Vm, point.Id), Options(), World.Token);

    /// <summary>All that is listed can be read and is sound, and an index that is made anew says the same.</summary>
    public static async ValueTask AssertWholeAsync(this World world, params PointBytes[] points)
    {
        Assert.Equal(points.Select(point => point.Id).Order(), (await world.Repository.ListPointsAsync(null, World.Token)).Select(point => point.Point).Order());
        foreach (var point in points)
        {
            await world.AssertReadableAsync(point);
        }
        Assert.Empty((await world.VerifyAsync(open: false)).Damages);
        Assert.Empty((await world.VerifyAsync(open: true)).Damages);
        Assert.Empty(await world.Repository.Upkeep.CheckObjectsAsync(Signatures, World.Token));
        Assert.True((await world.Repository.AuditAsync(World.Token)).IsSound);
        await using var rebuilt = await World.OpenAsync(world.Store, World.NewIndex(), null, world.Clock);
        Assert.Equal(await rebuilt.DumpAsync(), await world.DumpAsync());
    }
}

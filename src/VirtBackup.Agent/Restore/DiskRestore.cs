using System.Threading.Channels;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Records;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;
using VirtBackup.Sealing;
using RecordKind = VirtBackup.Format.Records.RecordKind;

namespace VirtBackup.Agent.Restore;

/// <summary>What the disks of one restore share.</summary>
internal sealed record RestoreSource(
    IStoreTransport Store, string JobId, ulong Attempt, Id16 Point, ChunkKeyRing ChunkKeys, IReadOnlyDictionary<Id16, VmKey> VmKeys, TimeProvider Time, IEntropy Entropy, int Workers);

/// <summary>
/// Fetches one disk window by window, a bounded number of chunks at a time; each chunk is proven before it is written.
/// </summary>
/// <param name="plan">What to write, ascending; it is read while earlier leaves are fetched.</param>
/// <param name="chunksOfLeafMax">How many chunks of each leaf.</param>
internal sealed class DiskRestore(
    RestoreSource source, Id16 stream, Func<CancellationToken, IAsyncEnumerable<PlannedLeaf>> plan, IRestoredDisk target, MapShape shape, RunProgress progress,
    int chunksOfLeafMax = int.MaxValue)
{
    private const int WindowsInFlight = 2;
    private const int RecordsInFlight = 24;
    private const int WritesInFlight = 2;
    private const int AttemptsMax = 8;

    // Shared by the windows: the bound of a restore's memory, however big the disk.
    private readonly ChunkBuffers _records = new(RecordsInFlight, ChunkSealer.RecordBytesMax(shape.ChunkBytesMax));
    private readonly ChunkBuffers _chunks = new(WindowsInFlight * (source.Workers + WritesInFlight), shape.ChunkBytesMax);

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        var windows = Channel.CreateBounded<RestoreWindow>(1);
        using var loops = new LoopGroup(cancellationToken);
        loops.Start(async token =>
        {
            await PlanAsync(windows.Writer, token);
            windows.Writer.Complete();
        });
        for (var i = 0; i < WindowsInFlight; i++)
        {
            loops.Start(async token =>
            {
                await foreach (var window in windows.Reader.ReadAllAsync(token))
                {
                    await FetchAsync(window, token);
                }
            });
        }
        await loops.WhenAllAsync();
        cancellationToken.ThrowIfCancellationRequested();
    }

    private async Task PlanAsync(ChannelWriter<RestoreWindow> windows, CancellationToken cancellationToken)
    {
        var window = new RestoreWindow();
        await foreach (var (offset, leaf, wanted) in plan(cancellationToken))
        {
            if (window.ChunkCount > 0 && (window.ChunkCount + leaf.Count > RestoreWindow.ChunksMax || window.ByteCount + shape.SpanBytes > RestoreWindow.BytesMax))
            {
                await windows.WriteAsync(window, cancellationToken);
                window = new RestoreWindow();
            }
            window.Add(leaf, offset, source.VmKeys, wanted, chunksOfLeafMax);
        }
        if (window.ChunkCount > 0)
        {
            await windows.WriteAsync(window, cancellationToken);
        }
    }

    private async Task FetchAsync(RestoreWindow window, CancellationToken cancellationToken)
    {
        var backoff = new Backoff(source.Time, source.Entropy);
        var failures = 0;
        while (window.MissingCount > 0)
        {
            var before = window.MissingCount;
            try
            {
                await FetchMissingAsync(window, cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable)
            {
                // A break that came after some chunks is not the same one again.
                if (window.MissingCount < before)
                {
                    failures = 0;
                    backoff.Reset();
                }
                if (++failures >= AttemptsMax)
                {
                    throw;
                }
                progress.Log($"Reading broke off and will go on: {fault.Message}");
                await backoff.WaitAsync(cancellationToken);
                continue;
            }
            if (window.MissingCount == before)
            {
                throw FaultException.Corrupt($"The controller did not send {before} chunks that disk {target.Disk.Name} needs.");
            }
        }
    }

    private async Task FetchMissingAsync(RestoreWindow window, CancellationToken cancellationToken)
    {
        window.Retake();
        var request = new ReadRecordsRequest { JobId = source.JobId, Attempt = source.Attempt, PointId = source.Point.ToString(), StreamId = stream.ToString() };
        request.Ranges.AddRange(window.ListMissingRanges());
        var records = Channel.CreateBounded<ReceivedRecord>(RecordsInFlight);
        using var loops = new LoopGroup(cancellationToken);
        loops.Start(async token =>
        {
            await foreach (var record in RecordStream.ReadAsync(source.Store.ReadRecordsAsync(request, token), RecordKind.Data, _records, token))
            {
                try
                {
                    await records.Writer.WriteAsync(record, token);
                }
                catch
                {
                    record.Dispose();
                    throw;
                }
            }
            records.Writer.Complete();
        });
        // While some wait for the disk, others open chunks.
        for (var i = 0; i < source.Workers + WritesInFlight; i++)
        {
            loops.Start(token => WriteRecordsAsync(window, records.Reader, token));
        }
        try
        {
            await loops.WhenAllAsync();
        }
        finally
        {
            while (records.Reader.TryRead(out var left))
            {
                left.Dispose();
            }
        }
        cancellationToken.ThrowIfCancellationRequested();
    }

    private async Task WriteRecordsAsync(RestoreWindow window, ChannelReader<ReceivedRecord> records, CancellationToken cancellationToken)
    {
        using var opener = new ChunkOpener(source.ChunkKeys);
        await foreach (var record in records.ReadAllAsync(cancellationToken))
        {
            using (record)
            {
                if (window.Take(record.Header.Id) is not { } chunk)
                {
                    throw FaultException.Malformed($"The controller sent chunk {record.Header.Id}, which was not asked for.");
                }
                var buffer = await _chunks.TakeAsync(cancellationToken);
                try
                {
                    var plain = buffer[..chunk.Length];
                    opener.Open(record.Bytes.Span, chunk.Id, chunk.Secret, plain.Span);
                    foreach (var offset in chunk.Offsets)
                    {
                        await target.WriteAsync(offset, plain, cancellationToken);
                        progress.AddDone(chunk.Length);
                    }
                }
                finally
                {
                    _chunks.Return(buffer);
                }
                progress.AddSent(record.Header.RecordLength);
                window.Finish(chunk.Id);
            }
        }
    }
}

using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Replication;

/// <summary>Asks for missing chunks of one stream, and stores what comes. Use an instance once.</summary>
/// <param name="fetch">What it is part of.</param>
/// <param name="chunks">By offset, each once.</param>
internal sealed class RecordCall(ReplicaFetch fetch, List<NamedChunk> chunks)
{
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        var expected = chunks.ToDictionary(static chunk => chunk.Id, static chunk => chunk.Length);
        using var cutter = new RecordCutter(header =>
        {
            if (header.Kind != RecordKind.Data || header.Scope != fetch.Scope || !expected.Remove(header.Id, out var length) || header.RawLength != length)
            {
                throw FaultException.Malformed($"It sent the record {header.Id} of {header.RawLength} bytes for scope {header.Scope}, which was not asked for.");
            }
        });
        await foreach (var slice in fetch.Source.ReadRecordsAsync(fetch.Point, fetch.Streams[chunks[0].Stream].Id, RangesOf(chunks), cancellationToken))
        {
            fetch.Counts.AddReceived(slice.Length);
            for (var at = 0; at < slice.Length;)
            {
                at += cutter.Take(slice.Span[at..], out var record);
                if (record is { } whole)
                {
                    var header = RecordHeader.Parse(whole.Span);
                    await fetch.DataLane.AppendAsync(whole, header.Id, fetch.Stopping);
                    fetch.Counts.AddRecord(header.RawLength);
                }
            }
        }
        if (expected.Count > 0 || cutter.IsInside)
        {
            throw FaultException.Malformed($"It sent {chunks.Count - expected.Count - (cutter.IsInside ? 1 : 0)} of {chunks.Count} chunks.");
        }
    }

    private static List<ByteRange> RangesOf(List<NamedChunk> chunks)
    {
        var ranges = new List<ByteRange>();
        foreach (var chunk in chunks)
        {
            if (ranges is [.., var last] && last.End == chunk.Offset)
            {
                ranges[^1] = new ByteRange(last.Offset, last.Length + chunk.Length);
            }
            else
            {
                ranges.Add(new ByteRange(chunk.Offset, chunk.Length));
            }
        }
        return ranges;
    }
}

using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Repository.Reading;

/// <summary>
/// Reads planned records in pack order as one byte stream. Neighbours are read together in large reads, small gaps between
/// them are read over; a record is yielded whole, its bytes as they lie in the pack.
/// </summary>
internal sealed class RecordStream(IObjectStore store, IDatabase index, Id16 point, Id16 scope)
{
    /// <summary>Bytes of one read: more than the longest record has.</summary>
    public const int ReadBytesMax = 8 << 20;

    /// <summary>
    /// A gap of up to this many bytes is cheaper to read than to skip: a request to a store far away, or a movement of a
    /// disk's head, takes as long. Old points of a long chain are mostly gaps.
    /// </summary>
    public const int GapBytesMax = 2 << 20;

    /// <param name="chunks">Distinct chunks; each is yielded once.</param>
    /// <param name="cancellationToken">Stops between reads.</param>
    public async IAsyncEnumerable<PooledSlice> ReadAsync(
        IReadOnlyCollection<WantedChunk> chunks, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var plan = await RecordPlan.MakeAsync(index, point, scope, chunks, cancellationToken);
        var replanned = false;
        for (var next = 0; next < plan.Records.Count;)
        {
            var window = Window.Open(plan.Records, next);
            using var buffer = new SharedBuffer(window.Length);
            if (!await TryReadAsync(plan, window, buffer, cancellationToken))
            {
                if (replanned)
                {
                    throw FaultException.Corrupt($"The pack {plan.PackKey(window.Pack)} is not in the repository any more. Verify the repository.");
                }
                // The records moved to another pack since the plan was made: look once more.
                replanned = true;
                plan = await RecordPlan.MakeAsync(index, point, scope, [.. plan.Records.Skip(next).Select(record => record.Chunk)], cancellationToken);
                next = 0;
                continue;
            }
            replanned = false;
            foreach (var part in window.PartsOf(plan.Records))
            {
                for (var at = 0; at < part.Length; at += Limits.SliceBytesMax)
                {
                    yield return new PooledSlice(buffer, buffer.Memory.Slice(part.Start + at, Math.Min(Limits.SliceBytesMax, part.Length - at)));
                }
            }
            next += window.Count;
        }
    }

    private async ValueTask<bool> TryReadAsync(RecordPlan plan, Window window, SharedBuffer buffer, CancellationToken cancellationToken)
    {
        try
        {
            await store.ReadExactlyAsync(plan.PackKey(window.Pack), window.Start, buffer.Memory, cancellationToken);
            return true;
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
        {
            return false;
        }
    }

    /// <summary>Records of one pack that are read together, with one read. The longest record is shorter than that.</summary>
    private readonly record struct Window(long Pack, long Start, int Length, int First, int Count)
    {
        public static Window Open(IReadOnlyList<PlannedRecord> records, int first)
        {
            var location = records[first].Location;
            var (count, end) = (1, location.End);
            while (first + count < records.Count)
            {
                var following = records[first + count].Location;
                if (following.Pack != location.Pack || following.Position - end > GapBytesMax || following.End - location.Position > ReadBytesMax)
                {
                    break;
                }
                end = following.End;
                count++;
            }
            return new Window(location.Pack, location.Position, (int)(end - location.Position), first, count);
        }

        /// <summary>Where the records' bytes are in the read: neighbours as one part.</summary>
        public IEnumerable<(int Start, int Length)> PartsOf(IReadOnlyList<PlannedRecord> records)
        {
            var (partStart, partEnd) = (0, 0);
            for (var i = First; i < First + Count; i++)
            {
                var location = records[i].Location;
                var start = (int)(location.Position - Start);
                if (start != partEnd)
                {
                    yield return (partStart, partEnd - partStart);
                    partStart = start;
                }
                partEnd = start + location.RecordLength;
            }
            yield return (partStart, partEnd - partStart);
        }
    }
}

using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;
using VirtBackup.Sealing;

namespace VirtBackup.Agent.Restore.InPlace;

/// <summary>
/// Compares an existing disk with a map: cuts it as the map says, names what it holds, and finds the chunks whose names
/// differ. Where the map has zeros and the disk has not, writes zeros.
/// </summary>
internal sealed class DiskComparison(IExistingDisk disk, ChunkKeys keys, int chunkBytesMax, int workers, ComparisonCounts counts, RunProgress progress)
{
    /// <summary>What is cleared at once: smaller runs of zeros between other bytes are written, too.</summary>
    private const int ZeroBlockBytes = 64 << 10;

    private readonly ChunkBuffers _buffers = new(workers + 1, Math.Max(chunkBytesMax, ZeroBlockBytes));

    /// <summary>Finds the entries of a leaf that the disk does not hold.</summary>
    /// <param name="offset">Of the leaf.</param>
    /// <param name="candidates">Which entries to compare; the others are known to be equal.</param>
    /// <returns>Which entries are to be written; zeros are written already.</returns>
    public async Task<bool[]> CompareAsync(MapLeaf leaf, long offset, bool[] candidates, CancellationToken cancellationToken)
    {
        var wanted = new bool[leaf.Count];
        var places = new long[leaf.Count];
        for (var i = 0; i < leaf.Count; i++)
        {
            places[i] = offset;
            offset += leaf.LengthAt(i);
        }
        var next = -1;
        using var loops = new LoopGroup(cancellationToken);
        for (var worker = 0; worker < workers; worker++)
        {
            loops.Start(async token =>
            {
                for (int i; (i = Interlocked.Increment(ref next)) < leaf.Count;)
                {
                    wanted[i] = await CompareEntryAsync(leaf[i], places[i], candidates[i], token);
                }
            });
        }
        await loops.WhenAllAsync();
        cancellationToken.ThrowIfCancellationRequested();
        return wanted;
    }

    /// <summary>Makes a part of the disk zero where it is not.</summary>
    public async Task ClearAsync(ByteRange range, CancellationToken cancellationToken)
    {
        counts.AddCompared(range.Length);
        long written = 0;
        await foreach (var data in disk.ListDataAsync(range, cancellationToken))
        {
            for (var offset = data.Offset; offset < data.End; offset += _buffers.BufferBytes)
            {
                written += await ClearPieceAsync(new ByteRange(offset, Math.Min(_buffers.BufferBytes, data.End - offset)), cancellationToken);
            }
        }
        counts.AddWritten(written);
        counts.AddSkipped(range.Length - written);
    }

    private async Task<bool> CompareEntryAsync(MapEntry entry, long offset, bool candidate, CancellationToken cancellationToken)
    {
        if (!candidate)
        {
            counts.AddSkipped(entry.Length);
        }
        else if (entry.IsZero)
        {
            await ClearAsync(new ByteRange(offset, entry.Length), cancellationToken);
        }
        else if (!await IsEqualAsync(entry, offset, cancellationToken))
        {
            counts.AddWritten(entry.Length);
            return true;
        }
        if (!entry.IsZero)
        {
            progress.AddDone(entry.Length);
        }
        return false;
    }

    private async Task<bool> IsEqualAsync(MapEntry entry, long offset, CancellationToken cancellationToken)
    {
        var buffer = await _buffers.TakeAsync(cancellationToken);
        try
        {
            var content = buffer[..entry.Length];
            await disk.ReadAsync(offset, content, cancellationToken);
            counts.AddCompared(entry.Length);
            var equal = keys.ComputeSecret(content.Span).DeriveId() == entry.Id;
            if (equal)
            {
                counts.AddSkipped(entry.Length);
            }
            return equal;
        }
        finally
        {
            _buffers.Return(buffer);
        }
    }

    private async Task<long> ClearPieceAsync(ByteRange piece, CancellationToken cancellationToken)
    {
        var buffer = await _buffers.TakeAsync(cancellationToken);
        try
        {
            var content = buffer[..(int)piece.Length];
            await disk.ReadAsync(piece.Offset, content, cancellationToken);
            long written = 0;
            foreach (var run in FindContent(content, piece.Offset))
            {
                await disk.WriteZerosAsync(run, cancellationToken);
                written += run.Length;
            }
            return written;
        }
        finally
        {
            _buffers.Return(buffer);
        }
    }

    private static List<ByteRange> FindContent(ReadOnlyMemory<byte> content, long offset)
    {
        var runs = new List<ByteRange>();
        for (var at = 0; at < content.Length; at += ZeroBlockBytes)
        {
            var block = content.Span[at..Math.Min(at + ZeroBlockBytes, content.Length)];
            if (!block.ContainsAnyExcept((byte)0))
            {
                continue;
            }
            if (runs.Count > 0 && runs[^1].End == offset + at)
            {
                runs[^1] = new ByteRange(runs[^1].Offset, runs[^1].Length + block.Length);
            }
            else
            {
                runs.Add(new ByteRange(offset + at, block.Length));
            }
        }
        return runs;
    }
}

using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>Raw images that hold the content of a seed.</summary>
internal static class ContentImage
{
    private const int BufferBytes = 1 << 20;

    /// <summary>Makes a sparse image, durable when it returns, so that writing it back does not disturb what is measured.</summary>
    /// <param name="extents">What of the content to write.</param>
    public static void Write(string path, DiskContent content, IEnumerable<Extent> extents, CancellationToken cancellationToken)
    {
        using var file = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 0);
        file.SetLength(content.Size.DiskBytes);
        var buffer = new byte[BufferBytes];
        foreach (var extent in extents)
        {
            for (var offset = extent.Offset; offset < extent.End;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var part = buffer.AsSpan(0, (int)Math.Min(BufferBytes, extent.End - offset));
                content.Fill(offset, part);
                RandomAccess.Write(file.SafeFileHandle, part, offset);
                offset += part.Length;
            }
        }
        file.Flush(flushToDisk: true);
    }

    /// <summary>Compares every byte, content and zeros.</summary>
    /// <exception cref="RefutedException">The image is another one.</exception>
    public static void RequireEqual(string path, DiskContent content, CancellationToken cancellationToken)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        if (file.Length != content.Size.DiskBytes) throw new RefutedException($"the restored disk has {file.Length} bytes instead of {content.Size.DiskBytes}");
        var (found, expected) = (new byte[BufferBytes], new byte[BufferBytes]);
        var zerosFrom = 0L;
        foreach (var extent in content.Extents.Append(new Extent(content.Size.DiskBytes, 0)))
        {
            Require(new Extent(zerosFrom, extent.Offset - zerosFrom), isZero: true);
            Require(extent, isZero: false);
            zerosFrom = extent.End;
        }

        void Require(Extent part, bool isZero)
        {
            for (var offset = part.Offset; offset < part.End;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var bytes = (int)Math.Min(BufferBytes, part.End - offset);
                file.Position = offset;
                file.ReadExactly(found, 0, bytes);
                if (!isZero) content.Fill(offset, expected.AsSpan(0, bytes));
                var equal = isZero ? !found.AsSpan(0, bytes).ContainsAnyExcept((byte)0) : found.AsSpan(0, bytes).SequenceEqual(expected.AsSpan(0, bytes));
                if (!equal) throw new RefutedException($"the restored disk differs from what was generated within {bytes} bytes at {offset}");
                offset += bytes;
            }
        }
    }
}

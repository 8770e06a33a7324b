using System.Buffers;
using System.Runtime.CompilerServices;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.State;

/// <summary>A machine's running state in a local file, readable as memory by address and as devices. Owns the open file. Safe for concurrent use.</summary>
internal sealed class SpooledState : IDisposable
{
    private readonly SafeFileHandle file;

    private SpooledState(SafeFileHandle file, SavedStream stream, Id16 memoryId, Id16 devicesId)
    {
        this.file = file;
        Memory = new MemoryStreamOf(file, stream, memoryId);
        Devices = new DeviceStreamOf(file, stream, devicesId);
    }

    public ICapturedDisk Memory { get; }

    public ICapturedDisk Devices { get; }

    /// <param name="from">Where the hypervisor's stream begins in the file.</param>
    /// <exception cref="FaultException">The stream is not one that can be stored by address.</exception>
    public static SpooledState Open(string path, Id16 memoryId, Id16 devicesId, long from = 0)
    {
        SafeFileHandle? file = null;
        try
        {
            var opened = file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, FileOptions.Asynchronous);
            var stream = SavedStream.Parse((target, offset) => RandomAccess.Read(opened, target, offset), RandomAccess.GetLength(opened), from);
            var state = new SpooledState(opened, stream, memoryId, devicesId);
            file = null;
            return state;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The saved state {path} cannot be read: {failure.Message}", failure);
        }
        finally
        {
            file?.Dispose();
        }
    }

    public void Dispose() => file.Dispose();

    private static async ValueTask ReadAsync(SafeFileHandle file, Memory<byte> target, long offset, CancellationToken cancellationToken)
    {
        try
        {
            for (var at = 0; at < target.Length;)
            {
                var count = await RandomAccess.ReadAsync(file, target[at..], offset + at, cancellationToken);
                at += count > 0 ? count : throw new FaultException(FaultReason.SnapshotLost, "The saved state was cut short while it was read.");
            }
        }
        catch (Exception failure) when (failure is IOException or ObjectDisposedException)
        {
            throw new FaultException(FaultReason.SnapshotLost, $"The saved state cannot be read any more: {failure.Message}", failure);
        }
    }

    private sealed class MemoryStreamOf(SafeFileHandle file, SavedStream stream, Id16 id) : ICapturedDisk
    {
        private const int PageBytes = MemoryLayout.PageBytes;

        public DiskSummary Disk { get; } = new(id, "memory", stream.Document.Layout.LengthBytes, "raw", null);

        public bool ChangedOnly => false;

        public string Reason => "memory is read whole";

        public ReadReach Reach => ReadReach.Everything;

        public string BaseToken => "";

        public async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
        {
            await Task.CompletedTask;
            var (start, end) = (0L, 0L);
            foreach (var run in stream.Pages.Runs)
            {
                if (run.Page != end && end > start)
                {
                    yield return new ByteRange(start * PageBytes, (end - start) * PageBytes);
                }
                start = run.Page == end ? start : run.Page;
                end = run.End;
            }
            if (end > start)
            {
                yield return new ByteRange(start * PageBytes, (end - start) * PageBytes);
            }
        }

        public async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
        {
            Check.That(offset >= 0 && offset <= Disk.LengthBytes - destination.Length);
            destination.Span.Clear();
            var scratch = ArrayPool<byte>.Shared.Rent(Math.Min(destination.Length / PageBytes + 2, 64) * SavedStream.Stride);
            try
            {
                var end = offset + destination.Length;
                for (var i = stream.Pages.FindFirst(offset / PageBytes); i < stream.Pages.Runs.Count && stream.Pages.Runs[i].Page * PageBytes < end; i++)
                {
                    await ReadRunAsync(stream.Pages.Runs[i], offset, destination, scratch, cancellationToken);
                }
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(scratch);
            }
        }

        private async ValueTask ReadRunAsync(PageRun run, long offset, Memory<byte> destination, byte[] scratch, CancellationToken cancellationToken)
        {
            var first = Math.Max(run.Page, offset / PageBytes);
            var last = Math.Min(run.End, (offset + destination.Length + PageBytes - 1) / PageBytes);
            var many = scratch.Length / SavedStream.Stride;
            for (var page = first; page < last; page += many)
            {
                var count = (int)Math.Min(many, last - page);
                // Between two pages lies the address of the second.
                await SpooledState.ReadAsync(file, scratch.AsMemory(0, (count * SavedStream.Stride) - sizeof(ulong)), run.Offset + ((page - run.Page) * SavedStream.Stride), cancellationToken);
                for (var i = 0; i < count; i++)
                {
                    CopyPage(scratch.AsSpan(i * SavedStream.Stride, PageBytes), ((page + i) * PageBytes) - offset, destination.Span);
                }
            }
        }

        private static void CopyPage(ReadOnlySpan<byte> page, long at, Span<byte> destination)
        {
            var skip = (int)Math.Max(0, -at);
            var take = (int)Math.Min(page.Length - skip, destination.Length - Math.Max(0, at));
            page.Slice(skip, take).CopyTo(destination[(int)Math.Max(0, at)..]);
        }
    }

    private sealed class DeviceStreamOf(SafeFileHandle file, SavedStream stream, Id16 id) : ICapturedDisk
    {
        private readonly byte[] document = stream.Document.Write();

        public DiskSummary Disk { get; } = new(id, "devices", stream.Document.Write().Length + stream.LengthBytes - stream.TailOffset, "raw", null);

        public bool ChangedOnly => false;

        public string Reason => "the state of devices is read whole";

        public ReadReach Reach => ReadReach.Everything;

        public string BaseToken => "";

        public async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
        {
            await Task.CompletedTask;
            yield return new ByteRange(0, Disk.LengthBytes);
        }

        public async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
        {
            Check.That(offset >= 0 && offset <= Disk.LengthBytes - destination.Length);
            var front = (int)Math.Clamp(document.Length - offset, 0, destination.Length);
            if (front > 0)
            {
                document.AsSpan((int)offset, front).CopyTo(destination.Span);
            }
            if (front < destination.Length)
            {
                await SpooledState.ReadAsync(file, destination[front..], stream.TailOffset + offset + front - document.Length, cancellationToken);
            }
        }
    }
}

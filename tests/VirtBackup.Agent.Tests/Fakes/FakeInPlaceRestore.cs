using System.Runtime.CompilerServices;
using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Tests.Fakes;

/// <summary>Existing disks in memory; their change tracking records what is written here, too, as QEMU's does.</summary>
internal sealed class FakeInPlaceRestore(FakeHypervisor owner, RestoreRequest request) : IRestore
{
    private readonly List<FakeExistingDisk> _disks =
        [.. request.Disks.Select(disk => new FakeExistingDisk(disk, owner.Disks.Single(existing => existing.Summary.Id == disk.Id), owner.OffersTracking, owner.InPlaceWritesMax))];

    public IReadOnlyList<IRestoredDisk> Disks => _disks;

    public bool Completed { get; private set; }

    public long BytesRead => _disks.Sum(disk => disk.BytesRead);

    public ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        Completed = true;
        return new(new RestoredMachine(request.Machine, request.Name, false, new Dictionary<string, string>())
        {
            Description = JsonSerializer.SerializeToElement(new { cpus = 3 }),
        });
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}

internal sealed class FakeExistingDisk : IExistingDisk
{
    private readonly FakeDisk _existing;
    private readonly Lock _gate = new();
    private int _writesLeft;

    public FakeExistingDisk(RestoreDisk disk, FakeDisk existing, bool offersTracking, int writesMax)
    {
        _writesLeft = writesMax;
        Disk = disk;
        _existing = existing;
        TrackedSince = offersTracking ? existing.Tracking.Keys.Single() : null;
        ChangedExtents = TrackedSince is { } since
            ? [.. existing.Tracking[since].Select(block => new ByteRange(block * FakeDisk.Block, Math.Min(FakeDisk.Block, existing.Content.Length - (block * FakeDisk.Block))))] : [];
    }

    public RestoreDisk Disk { get; }
    public Id16? TrackedSince { get; }
    public string TrackingDetail => "as the test says";
    public IReadOnlyList<ByteRange> ChangedExtents { get; }
    public long BytesRead { get; private set; }

    public async IAsyncEnumerable<ByteRange> ListDataAsync(ByteRange range, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await Task.Yield();
        for (var offset = range.Offset; offset < range.End; offset = Math.Min(range.End, (offset / FakeDisk.Block * FakeDisk.Block) + FakeDisk.Block))
        {
            var end = Math.Min(range.End, (offset / FakeDisk.Block * FakeDisk.Block) + FakeDisk.Block);
            if (_existing.Content.AsSpan((int)offset, (int)(end - offset)).ContainsAnyExcept((byte)0))
            {
                yield return new ByteRange(offset, end - offset);
            }
        }
    }

    public async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        await Task.Yield();
        lock (_gate)
        {
            _existing.Content.AsMemory((int)offset, destination.Length).CopyTo(destination);
            BytesRead += destination.Length;
        }
    }

    public ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            if (--_writesLeft < 0)
            {
                throw new FaultException(FaultReason.DeviceFull, "The device is full.");
            }
            _existing.Write(offset, source.ToArray());
        }
        return ValueTask.CompletedTask;
    }

    public ValueTask WriteZerosAsync(ByteRange range, CancellationToken cancellationToken) => WriteAsync(range.Offset, new byte[range.Length], cancellationToken);
}

using System.Runtime.CompilerServices;
using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Tests.Fakes;

/// <summary>A disk in memory with exact change tracking in blocks of 64 KiB.</summary>
/// <param name="id">Its id.</param>
/// <param name="name">Its name.</param>
/// <param name="content">Its bytes.</param>
/// <param name="isStill">Nobody writes to it during a capture, so that a view of it needs no copy.</param>
internal sealed class FakeDisk(Id16 id, string name, byte[] content, bool isStill = false)
{
    public const int Block = 64 << 10;

    public DiskSummary Summary => new(id, name, content.Length, "raw", null);
    public byte[] Content => content;

    /// <summary>The content as it is now, whatever is written later.</summary>
    public byte[] View => isStill ? content : [.. content];

    /// <summary>Blocks written since a point.</summary>
    public Dictionary<Id16, SortedSet<long>> Tracking { get; } = [];

    public void Write(long offset, byte[] data)
    {
        data.CopyTo(content, offset);
        foreach (var blocks in Tracking.Values)
        {
            for (var block = offset / Block; block * Block < offset + data.Length; block++)
            {
                blocks.Add(block);
            }
        }
    }
}

internal sealed partial class FakeHypervisor(Id16 machine, params FakeDisk[] disks) : IHypervisor
{
    public string Kind => "fake";
    public bool HoldsAtGate { get; set; }
    public RestoreAbilities RestoreAbilities => RestoreAbilities.InPlace | RestoreAbilities.DisksOnly;
    public Id16 Machine => machine;
    public IReadOnlyList<FakeDisk> Disks => disks;
    public List<string> Ends { get; } = [];
    public FakeRestore? Restored { get; private set; }

    /// <summary>What comes of the start of a restored machine; null: it starts.</summary>
    public FaultException? StartFault { get; set; }

    /// <summary>Called before every read.</summary>
    public Func<long, Task> OnRead { get; set; } = _ => Task.CompletedTask;
    public Exception? CommitFailure { get; set; }

    /// <summary>What disks that are read by their changes let be read.</summary>
    public ReadReach Reach { get; set; } = ReadReach.ListedExtents;
    public int CapturesNow { get; set; }
    public int CapturesMax { get; set; }

    public MachineSummary Summary => new(machine, "web1", true, [.. disks.Select(disk => disk.Summary)], null);

    public ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken) => new([Summary]);

    public ValueTask<IReadOnlyList<Id16>> ListTrackedPointsAsync(Id16 id, CancellationToken cancellationToken) =>
        new([.. disks.SelectMany(disk => disk.Tracking.Keys).Distinct()]);

    public ValueTask<Id16?> SettleAsync(Id16 id, IReadOnlySet<Id16> committed, CancellationToken cancellationToken)
    {
        Id16? last = null;
        foreach (var disk in disks)
        {
            foreach (var point in disk.Tracking.Keys.ToArray())
            {
                if (committed.Contains(point))
                {
                    last = point;
                }
                else
                {
                    disk.Tracking.Remove(point);
                }
            }
        }
        return new(last);
    }

    public ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken) => ValueTask.CompletedTask;

    public CaptureRequest? LastRequest { get; private set; }

    public ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken) => new(new CapturePlan([], 0, 0));

    /// <summary>Gates that captures went through, whether or not they came to their end.</summary>
    public List<ICutGate?> Gates { get; } = [];

    public async ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        LastRequest = request;
        Gates.Add(request.Gate);
        if (request.Gate is { } gate)
        {
            await gate.ReadyAsync(cancellationToken);
            await gate.PreparedAsync(cancellationToken);
            await gate.FrozenAsync(cancellationToken);
            await gate.CutAsync(cancellationToken);
            gate.Released(held: true);
        }
        CapturesMax = Math.Max(CapturesMax, ++CapturesNow);
        return new FakeCapture(this, request);
    }

    public ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) => new([]);

    public FakeInPlaceRestore? InPlace { get; private set; }

    /// <summary>What the machine keeps beside its disks.</summary>
    public IReadOnlyList<MachineContent> Contents { get; set; } = [];

    /// <summary>Writes to existing disks that succeed before one fails.</summary>
    public int InPlaceWritesMax { get; set; } = int.MaxValue;

    /// <summary>Whether existing disks offer what changed since their last point.</summary>
    public bool OffersTracking { get; set; }

    public ValueTask<IRestore> BeginRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) =>
        request.Placement == RestorePlacement.InPlace ? new(InPlace = new FakeInPlaceRestore(this, request)) : new(Restored = new FakeRestore(request, StartFault));
}

internal sealed class FakeCapture : ICapture
{
    private readonly FakeHypervisor _owner;
    private readonly CaptureRequest _request;
    private bool _over;

    public FakeCapture(FakeHypervisor owner, CaptureRequest request)
    {
        _owner = owner;
        _request = request;
        Disks = [.. owner.Disks.Where(disk => !request.ExcludedDisks.Contains(disk.Summary.Name)).Select(disk => new FakeCapturedDisk(owner, disk, request.Base))];
        SkippedDisks = [.. owner.Disks.Where(disk => request.ExcludedDisks.Contains(disk.Summary.Name)).Select(disk => disk.Summary with { SkipReason = "excluded" })];
        foreach (var disk in owner.Disks)
        {
            disk.Tracking.Add(request.Point, []);
        }
    }

    public MachineConfiguration Configuration { get; } = new("web1", JsonSerializer.SerializeToElement(new { cpus = 2 }), "none", default);
    public CaptureConsistency Consistency => CaptureConsistency.Crash;
    public string ConsistencyDetail => "no guest agent";
    public IReadOnlyList<MachineContent> Contents => _owner.Contents;
    public IReadOnlyList<ICapturedDisk> Disks { get; }
    public IReadOnlyList<DiskSummary> SkippedDisks { get; }

    public ValueTask CommitAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (_owner.CommitFailure is { } failure)
        {
            throw failure;
        }
        return End("commit", point => point != _request.Point);
    }

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => End("abandon", point => point == _request.Point);

    public ValueTask DetachAsync(CancellationToken cancellationToken) => End("detach", _ => false);

    public ValueTask DisposeAsync() => AbandonAsync(CancellationToken.None);

    private ValueTask End(string how, Func<Id16, bool> drop)
    {
        if (!_over)
        {
            _over = true;
            _owner.CapturesNow--;
            _owner.Ends.Add(how);
            foreach (var disk in _owner.Disks)
            {
                foreach (var point in disk.Tracking.Keys.Where(drop).ToArray())
                {
                    disk.Tracking.Remove(point);
                }
            }
        }
        return ValueTask.CompletedTask;
    }
}

internal sealed class FakeCapturedDisk : ICapturedDisk
{
    private readonly FakeHypervisor _owner;
    private readonly byte[] _view;
    private readonly long[] _blocks;

    public FakeCapturedDisk(FakeHypervisor owner, FakeDisk disk, Id16? basis)
    {
        _owner = owner;
        _view = disk.View;
        Disk = disk.Summary;
        ChangedOnly = basis is { } point && disk.Tracking.ContainsKey(point);
        _blocks = ChangedOnly
            ? [.. disk.Tracking[basis!.Value]]
            : [.. Enumerable.Range(0, (_view.Length + FakeDisk.Block - 1) / FakeDisk.Block).Select(block => (long)block).Where(IsAllocated)];
    }

    public DiskSummary Disk { get; }
    public bool ChangedOnly { get; }
    public string Reason => ChangedOnly ? "changed blocks only" : "first backup";
    public string BaseToken => "";
    public ReadReach Reach => _owner.Reach;

    public async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await Task.Yield();
        for (var i = 0; i < _blocks.Length;)
        {
            var first = i;
            while (i < _blocks.Length && _blocks[i] == _blocks[first] + (i - first))
            {
                i++;
            }
            var offset = _blocks[first] * FakeDisk.Block;
            yield return new ByteRange(offset, Math.Min(_view.Length, (_blocks[i - 1] + 1) * FakeDisk.Block) - offset);
        }
    }

    public async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        await Task.Yield();
        cancellationToken.ThrowIfCancellationRequested();
        await _owner.OnRead(offset);
        _view.AsMemory((int)offset, destination.Length).CopyTo(destination);
    }

    private bool IsAllocated(long block) =>
        _view.AsSpan((int)(block * FakeDisk.Block), (int)Math.Min(FakeDisk.Block, _view.Length - (block * FakeDisk.Block))).ContainsAnyExcept((byte)0);
}

internal sealed class FakeRestore(RestoreRequest request, FaultException? startFault) : IRestore
{
    public IReadOnlyList<IRestoredDisk> Disks { get; } = [.. request.Disks.Select(disk => new FakeTarget(disk))];
    public bool Completed { get; private set; }
    public bool Started { get; private set; }
    public RestoreRequest Request => request;

    public byte[] Content(Id16 disk) => ((FakeTarget)Disks.Single(target => target.Disk.Id == disk)).Content;

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        Started = await request.MayStartAsync(cancellationToken);
        if (Started && startFault is not null)
        {
            throw startFault;
        }
        Completed = true;
        return new RestoredMachine(request.Machine, request.Name, Started, new Dictionary<string, string> { ["folder"] = request.Folder });
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private sealed class FakeTarget(RestoreDisk disk) : IRestoredDisk
    {
        public byte[] Content { get; } = new byte[disk.LengthBytes];
        public RestoreDisk Disk => disk;

        public ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
        {
            source.CopyTo(Content.AsMemory((int)offset));
            return ValueTask.CompletedTask;
        }
    }
}

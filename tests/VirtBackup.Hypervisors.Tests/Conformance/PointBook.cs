using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>How a disk was read.</summary>
public sealed record ReadDisk(string Name, bool ChangedOnly, string Reason, long Bytes);

/// <summary>A finished backup.</summary>
public sealed record MadePoint(Id16 Point, Id16? Base, IReadOnlyList<ReadDisk> Disks)
{
    public ReadDisk Disk(string name) => Disks.Single(disk => disk.Name == name);
}

/// <summary>A stand-in for agent and repository: the content of every point, and what is remembered of it.</summary>
public sealed class PointBook(ConformanceMachine machine)
{
    private const int ReadBytes = 40 << 10;
    private readonly Dictionary<Id16, Dictionary<Id16, (string Name, byte[] Bytes)>> contents = [];
    private readonly List<RememberedPoint> remembered = [];

    public HashSet<Id16> Committed { get; } = [];

    /// <summary>Newest first.</summary>
    public IReadOnlyList<RememberedPoint> Remembered => remembered;

    public Id16? NewestCommitted => remembered.Find(point => Committed.Contains(point.Point))?.Point;

    public static Id16 NewPoint() => Id16.Create(SystemEntropy.Instance);

    public ValueTask<Id16?> SettleAsync(IHypervisor driver) => driver.SettleByTokensAsync(machine.Id, Committed, remembered, default);

    public ValueTask<IReadOnlyList<Id16>> ListAsync(IHypervisor driver) => driver.ListPointsByTokensAsync(machine.Id, remembered, default);

    public CaptureRequest Request(Id16? basis, params string[] excluded) => new(machine.Id, NewPoint(), basis, excluded.ToHashSet())
    {
        BaseTokens = remembered.Find(point => point.Point == (basis ?? NewestCommitted))?.BaseTokens ?? new Dictionary<Id16, string>(),
    };

    /// <summary>Reads a capture over its base, and remembers the point as an agent does before it asks for the commit.</summary>
    public async Task<IReadOnlyList<ReadDisk>> ReadAsync(ICapture capture, CaptureRequest request)
    {
        var (content, read) = (new Dictionary<Id16, (string, byte[])>(), new List<ReadDisk>());
        foreach (var disk in capture.Disks)
        {
            var bytes = new byte[disk.Disk.LengthBytes];
            if (disk.ChangedOnly)
            {
                var basis = contents[request.Base!.Value][disk.Disk.Id].Bytes;
                Assert.Equal(bytes.Length, basis.Length);
                basis.CopyTo(bytes, 0);
            }
            read.Add(new ReadDisk(disk.Disk.Name, disk.ChangedOnly, disk.Reason, await ReadAsync(disk, bytes)));
            content.Add(disk.Disk.Id, (disk.Disk.Name, bytes));
        }
        contents[request.Point] = content;
        remembered.Insert(0, new RememberedPoint(request.Point, capture.Disks.ToDictionary(disk => disk.Disk.Id, disk => disk.BaseToken)));
        return read;
    }

    public void RequireEqual(Id16 point, IReadOnlyDictionary<string, byte[]> reference)
    {
        var content = contents[point].Values.ToDictionary(disk => disk.Name, disk => disk.Bytes);
        foreach (var (name, bytes) in content)
        {
            var differs = bytes.AsSpan().CommonPrefixLength(reference[name]);
            Assert.True(bytes.Length == reference[name].Length && differs == bytes.Length, $"{name} differs from byte {differs} on.");
        }
    }

    /// <summary>The content of a disk in a point.</summary>
    public byte[] ContentOf(Id16 point, Id16 disk) => contents[point][disk].Bytes;

    /// <summary>A whole backup: settle, cut, read, compare with what the disks held at the cut, commit.</summary>
    /// <param name="during">Done between the cut and the reading.</param>
    public async Task<MadePoint> BackUpAsync(IHypervisor driver, Func<Task>? during = null, bool full = false, params string[] excluded)
    {
        var basis = await SettleAsync(driver);
        var request = Request(full ? null : basis, excluded);
        var reference = await machine.ReadAllAsync();
        await using var capture = await driver.BeginCaptureAsync(request, default);
        if (during is not null)
        {
            await during();
        }
        var disks = await ReadAsync(capture, request);
        RequireEqual(request.Point, reference);
        Committed.Add(request.Point);
        await capture.CommitAsync(default);
        return new MadePoint(request.Point, request.Base, disks);
    }

    /// <returns>Bytes read.</returns>
    private static async Task<long> ReadAsync(ICapturedDisk disk, byte[] target)
    {
        long total = 0, end = 0;
        var reads = new List<Task>();
        await foreach (var extent in disk.ListExtentsAsync(default))
        {
            Assert.True(extent.Offset >= end && extent.Length > 0 && extent.End <= disk.Disk.LengthBytes, $"{extent} of {disk.Disk.Name} is out of order or outside.");
            end = extent.End;
            total += extent.Length;
            for (var offset = extent.Offset; offset < extent.End; offset += ReadBytes)
            {
                var read = disk.ReadAsync(offset, target.AsMemory((int)offset, (int)Math.Min(ReadBytes, extent.End - offset)), default).AsTask();
                if (disk.SequentialOnly)
                {
                    await read;
                }
                reads.Add(read);
            }
        }
        await Task.WhenAll(reads);
        return total;
    }
}

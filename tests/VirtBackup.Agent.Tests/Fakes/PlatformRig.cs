using System.Security.Cryptography;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Restore;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Testing.Platforms;
using VirtBackup.Testing.Platforms.HyperV;
using VirtBackup.Testing.Platforms.VSphere;

namespace VirtBackup.Agent.Tests.Fakes;

/// <summary>The platform of a <see cref="PlatformRig"/>.</summary>
public enum Platform
{
    VSphere,
    /// <summary>Disks come as a stream.</summary>
    VSphereExport,
    HyperV,
}

/// <summary>An agent whose one machine is on a server in memory, and its controller.</summary>
internal sealed class PlatformRig : IDisposable
{
    private readonly ECDsa _signer = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly SeededEntropy _entropy;
    private readonly Platform _platform;
    private readonly Dictionary<string, IReadOnlyList<byte[]>> _references = [];
    private int _restores;

    public PlatformRig(Platform platform, int seed, CaptureTools? tools = null)
    {
        _platform = platform;
        _entropy = new SeededEntropy(seed);
        Store = new FakeStore(_entropy, _signer);
        Id = Id16.Create(_entropy);
        var time = new FastTime();
        Context = new BackupContext(
            "host1", Store, Bases, new VmKeyRing(time, _entropy), _signer, KeyId.Compute(_signer.ExportSubjectPublicKeyInfo()), tools ?? new CaptureTools(time, _entropy, 2) { Shape = MapShape.Of(Chunker.ContentDefined, 13) });
        VSphere.Add(Id, "web1");
        HyperV.Add(Id, "web1");
        foreach (var length in new[] { 512 << 10, (300 << 10) + 512 })
        {
            var content = Rig.RandomBytes(seed + length, length);
            content.AsSpan(length / 4, length / 4).Clear();
            VSphere.Find(Id).AddDisk([.. content]);
            HyperV.Find(Id).AddDisk([.. content]);
        }
    }

    public FakeStore Store { get; }
    public MemoryBases Bases { get; set; } = new();
    public BackupContext Context { get; private set; }
    public Id16 Id { get; }
    public VSphereServer VSphere { get; } = new();
    public HyperVServer HyperV { get; } = new();

    /// <summary>What the disks hold now.</summary>
    public IReadOnlyList<byte[]> Contents => _platform == Platform.HyperV
        ? [.. HyperV.Find(Id).Disks.Select(disk => disk.Content.ToArray())] : [.. VSphere.Find(Id).Disks.Select(disk => disk.Content.ToArray())];

    /// <summary>Views of ours on the server.</summary>
    public int Views => VSphere.Find(Id).Snapshots.Count + HyperV.Find(Id).Checkpoints.Count;

    public void ForgetBases() => Context = Context with { Bases = Bases = new MemoryBases() };

    public void LoseTracking()
    {
        VSphere.Find(Id).LosePower();
        HyperV.Find(Id).LoseReferencePoints();
    }

    public void Write(Random random)
    {
        for (var disk = 0; disk < 2; disk++)
        {
            var data = new byte[512 * random.Next(1, 40)];
            random.NextBytes(data);
            var offset = 512L * random.Next((Contents[disk].Length - data.Length) / 512);
            VSphere.Find(Id).Disks[disk].Write(offset, data);
            HyperV.Find(Id).Disks[disk].Write(offset, data);
        }
    }

    public async Task<BackupResult> BackupAsync(ServerLink? link = null, Random? whileReading = null, BackupOptions? options = null)
    {
        link ??= new ServerLink();
        var job = new Job { JobId = Id16.Create(_entropy).ToString(), Attempt = 1, Backup = new BackupTask { VmId = Id.ToString(), PointId = Id16.Create(_entropy).ToString(), Options = options ?? new BackupOptions() } };
        link.OnCall += (operation, _) =>
        {
            if (operation is "CreateSnapshot" or "CreateCheckpoint")
            {
                _references[job.Backup.PointId] = Contents;
            }
            else if (whileReading is not null && operation is "ReadDisk" or "ReadExport" or "ReadVirtualDisk")
            {
                Write(whileReading!);
            }
        };
        return await new BackupRun(Context, Connect(link), job, Id, Id16.Parse(job.Backup.PointId), new RunProgress()).RunAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(60));
    }

    /// <summary>Restores every recovery point that the controller has, and compares it with what the disks held at its cut.</summary>
    public async Task RequireAllRestorableAsync()
    {
        foreach (var point in Store.Points.Select(point => point.Head.Point))
        {
            var options = new RestoreOptions { Folder = $"restored-{_restores++}", Name = $"restored-{_restores}" };
            var run = new RestoreRun(Context, [Connect(new ServerLink())], Id16.Create(_entropy).ToString(), 1, Id, point, options, new RunProgress());
            var result = await run.RunAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(60));
            var datastore = _platform == Platform.HyperV ? HyperV.Datastore : VSphere.Datastore;
            var disks = result.Details.Where(detail => detail.Name.StartsWith("disk ", StringComparison.Ordinal)).OrderBy(detail => detail.Name, StringComparer.Ordinal).Select(detail => datastore.Read(detail.Value)).ToList();
            // Whole disks: element by element, as lists are compared, takes a second for each.
            Assert.Equal(_references[point.ToString()].Count, disks.Count);
            Assert.All(_references[point.ToString()].Zip(disks), static pair => Assert.True(pair.First.AsSpan().SequenceEqual(pair.Second)));
            Assert.Contains(options.Name, datastore.Machines);
        }
    }

    public void Dispose()
    {
        Context.VmKeys.Dispose();
        Store.Dispose();
        _signer.Dispose();
    }

    private IHypervisor Connect(ServerLink link) => _platform == Platform.HyperV
        ? new HyperVHypervisor(HyperV, [new PlatformMachine(Id, "web1")], link)
        : new VSphereHypervisor(VSphere, [new PlatformMachine(Id, "web1")], link) { Exports = _platform == Platform.VSphereExport };
}

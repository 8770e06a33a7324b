using System.Security.Cryptography;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Restore;
using VirtBackup.Agent.State;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Tests.Fakes;

/// <summary>Reproducible bytes. Safe for concurrent use.</summary>
internal sealed class SeededEntropy(int seed) : IEntropy
{
    private readonly Random _random = new(seed);

    public void Fill(Span<byte> destination)
    {
        lock (_random)
        {
            _random.NextBytes(destination);
        }
    }
}

/// <summary>Time that runs 200 times faster: waits of seconds cost milliseconds, and patience still outlasts a busy machine.</summary>
internal sealed class FastTime : TimeProvider
{
    private const int Factor = 200;

    public override long GetTimestamp() => System.GetTimestamp() * Factor;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
        System.CreateTimer(callback, state, dueTime == Timeout.InfiniteTimeSpan ? dueTime : dueTime / Factor, period == Timeout.InfiniteTimeSpan ? period : period / Factor);
}

internal sealed class MemoryBases : IBaseStore
{
    private readonly Dictionary<Id16, IReadOnlyList<BaseRecord>> _records = [];

    public Action<IReadOnlyList<BaseRecord>>? OnSave { get; set; }

    public ValueTask<IReadOnlyList<BaseRecord>> LoadAsync(Id16 machine, CancellationToken cancellationToken) => new(_records.GetValueOrDefault(machine) ?? []);

    public ValueTask SaveAsync(Id16 machine, IReadOnlyList<BaseRecord> records, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        OnSave?.Invoke(records);
        _records[machine] = records;
        return ValueTask.CompletedTask;
    }
}

/// <summary>An agent with one machine and its controller.</summary>
internal sealed class Rig : IDisposable
{
    private readonly ECDsa _signer = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly SeededEntropy _entropy;

    public Rig(int seed, params byte[][] disks)
    {
        _entropy = new SeededEntropy(seed);
        Store = new FakeStore(_entropy, _signer);
        Hypervisor = new FakeHypervisor(NewId(), [.. disks.Select((content, index) => new FakeDisk(NewId(), $"disk{index}", content))]);
        var time = new FastTime();
        Context = new BackupContext("host1", Store, Bases, new VmKeyRing(time, _entropy), _signer, KeyId.Compute(_signer.ExportSubjectPublicKeyInfo()), new CaptureTools(time, _entropy, 2));
    }

    public FakeStore Store { get; }
    public FakeHypervisor Hypervisor { get; }
    public MemoryBases Bases { get; } = new();
    public BackupContext Context { get; private set; }
    public RunProgress Progress { get; private set; } = new();
    public FakeDisk Disk => Hypervisor.Disks[0];

    public static byte[] RandomBytes(int seed, int length)
    {
        var bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    /// <summary>As if this rig's machine were one of the agent that has these tools.</summary>
    public void Share(CaptureTools tools) => Context = Context with { Tools = tools };

    public Id16 NewId() => Id16.Create(_entropy);

    public Job NewJob(BackupOptions? options = null) => new()
    {
        JobId = NewId().ToString(),
        Attempt = 1,
        Backup = new BackupTask { VmId = Hypervisor.Machine.ToString(), PointId = NewId().ToString(), Options = options ?? new BackupOptions() },
    };

    public Task<BackupResult> BackupAsync(BackupOptions? options = null, CancellationToken cancellationToken = default) =>
        BackupAsync(NewJob(options), cancellationToken);

    public async Task<BackupResult> BackupAsync(Job job, CancellationToken cancellationToken = default)
    {
        Progress = new RunProgress();
        var run = new BackupRun(Context, Hypervisor, job, Hypervisor.Machine, Id16.Parse(job.Backup.PointId), Progress);
        return await run.RunAsync(cancellationToken).WaitAsync(TimeSpan.FromSeconds(30), CancellationToken.None);
    }

    public async Task<FakeRestore> RestoreAsync(string point)
    {
        var options = new RestoreOptions { Folder = "/restored" };
        var run = new RestoreRun(Context, [Hypervisor], NewId().ToString(), 1, Hypervisor.Machine, Id16.Parse(point), options, new RunProgress());
        await run.RunAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(30));
        return Hypervisor.Restored!;
    }

    /// <summary>Restores onto the machine's own disks.</summary>
    public async Task<RestoreResult> RestoreInPlaceAsync(string point, params string[] onlyDisks)
    {
        var options = new RestoreOptions { Placement = VirtBackup.Protocol.Common.V1.RestorePlacement.InPlace };
        options.OnlyDisks.AddRange(onlyDisks);
        var run = new RestoreRun(Context, [Hypervisor], NewId().ToString(), 1, Hypervisor.Machine, Id16.Parse(point), options, Progress = new RunProgress());
        return await run.RunAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(30));
    }

    public async Task RequireRestorableAsync(string point)
    {
        var restored = await RestoreAsync(point);
        Assert.True(restored.Completed);
        foreach (var disk in Hypervisor.Disks.Where(disk => restored.Disks.Any(target => target.Disk.Id == disk.Summary.Id)))
        {
            Assert.True(disk.Content.AsSpan().SequenceEqual(restored.Content(disk.Summary.Id)), $"{disk.Summary.Name} came back with other bytes.");
        }
    }

    public void Dispose()
    {
        Context.VmKeys.Dispose();
        Store.Dispose();
        _signer.Dispose();
    }
}

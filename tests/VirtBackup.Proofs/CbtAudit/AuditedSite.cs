using VirtBackup.Agent.Auditing;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.ObjectStores;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CbtAudit;

/// <summary>A controller and a host whose change tracking can be made to lose changes.</summary>
internal sealed class AuditedSite : IAsyncDisposable
{
    private readonly string _folder;
    private readonly LocalFolderStore _store;

    /// <param name="runs">In which the audit reads everything again.</param>
    /// <param name="standStill">Planted defect.</param>
    public AuditedSite(ProofOptions options, string name, int seed, TimeProvider time, MapShape shape, int runs, bool standStill)
    {
        var entropy = new SeededEntropy(seed);
        _folder = Path.Combine(options.Work, $"virtbackup-cbt-{Environment.ProcessId}-{name}");
        Directory.CreateDirectory(_folder);
        _store = LocalFolderStore.Open(_folder);
        Site = new Site(entropy, time, 4 << 20);
        Host = new Host(Site, entropy, time, new HostOptions
        {
            Shape = shape,
            IsWitnessed = false,
            Audit = new AuditOptions(runs, TimeSpan.FromHours(10)),
            AlterHypervisor = machine => Hypervisor ??= new ForgetfulHypervisor(machine),
            AlterBases = bases => Bases = new KeptBases(bases, standStill),
        });
    }

    public Site Site { get; }

    public Host Host { get; }

    public KeptBases Bases { get; private set; } = null!;

    /// <summary>Of the first machine, or what was put in its place.</summary>
    public ForgetfulHypervisor? Hypervisor { get; set; }

    public async Task StartAsync()
    {
        await Site.InitializeAsync(_store);
        await Site.BootAsync(_store, new Power(), false, false);
        await Host.EnrollAsync();
    }

    /// <summary>Requires that the point holds these disks.</summary>
    public async Task RequireAsync(FakeHypervisor machine, Id16 point, IReadOnlyDictionary<Id16, byte[]> disks)
    {
        var outcome = await Host.RestoreAsync(machine, point);
        outcome.RequireTrue(point, disks);
        if (outcome.Failure is { } failure)
        {
            throw new RefutedException($"The restore failed: {failure.Message}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        Host.Dispose();
        await Site.DisposeAsync();
        _store.Dispose();
        Directory.Delete(_folder, recursive: true);
    }
}

using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.PlanCalibration.Incompatibilities;

/// <summary>
/// Shows the driver stored machines that do not fit this host, in one way or in two at once. Each must be reported by its item
/// and its verdict; what blocks must refuse the restore, with nothing written anywhere.
/// </summary>
internal sealed class InjectionRun(ProofOptions options)
{
    private const int Purpose = 2000;
    private const int PairsOfShort = 12;
    private const int PairsOfLong = 200;

    /// <summary>What every plan speaks of, whatever it finds.</summary>
    private static readonly string[] Items =
    [
        "program", "machine type", "accelerator", "cpu", "firmware", "secure boot", "tpm", "disk bus", "disk format", "sector size", "network", "name", "storage", "space",
    ];

    private int _folders;

    /// <exception cref="RefutedException">Something is not reported, or is written nevertheless.</exception>
    public async Task<string> RunAsync(CancellationToken cancellationToken)
    {
        await using var host = await Host.CreateAsync();
        IHypervisor driver = new QemuHypervisor([], new QemuOptions(host.Folder), TimeProvider.System, new SystemEntropy());
        var random = options.RandomOf(0, Purpose);
        var known = KnownIncompatibilities.All(host, random);
        var swallowed = options.Sabotage == Sabotages.SwallowFinding ? known[random.Next(known.Count)].Item : null;
        await RequireWholeAsync(driver, host, swallowed, cancellationToken);
        foreach (var one in known)
        {
            await RequireReportedAsync(driver, host, [one], swallowed, cancellationToken);
        }
        var pairs = options.Short ? PairsOfShort : PairsOfLong;
        for (var i = 0; i < pairs; i++)
        {
            var first = known[random.Next(known.Count)];
            var others = known.Where(other => other.Item != first.Item && !other.IsAlone && !first.IsAlone && !Collide(first, other)).ToList();
            await RequireReportedAsync(driver, host, others.Count > 0 ? [first, others[random.Next(others.Count)]] : [first], swallowed, cancellationToken);
        }
        return $"{known.Count} kinds of incompatibility reported, {pairs} pairs of them";
    }

    /// <summary>Nothing is hidden: where all fits, it says so of every item.</summary>
    private async Task RequireWholeAsync(IHypervisor driver, Host host, string? swallowed, CancellationToken cancellationToken)
    {
        var findings = await CheckAsync(driver, Machine(host).ToRequest(), swallowed, cancellationToken);
        if (findings.FirstOrDefault(finding => finding.Severity == FindingSeverity.Blocks) is { } blocks) throw new RefutedException($"A machine that fits is refused: {blocks.Message}");
        var silent = Items.Where(item => findings.All(finding => finding.Item != item)).ToList();
        if (silent.Count > 0) throw new RefutedException($"The plan says nothing about {string.Join(", ", silent)}.");
    }

    private async Task RequireReportedAsync(
        IHypervisor driver, Host host, IReadOnlyList<Incompatibility> planted, string? swallowed, CancellationToken cancellationToken)
    {
        var machine = Machine(host);
        foreach (var one in planted) one.Plant(machine);
        var request = machine.ToRequest();
        var name = string.Join(" and ", planted.Select(one => $"'{one.Name}'"));
        var before = ContentOf(host.Folder);
        var findings = await CheckAsync(driver, request, swallowed, cancellationToken);
        foreach (var one in planted)
        {
            if (!findings.Any(finding => finding.Item == one.Item && finding.Severity == one.Severity))
            {
                throw new RefutedException($"With {name} the plan does not report '{one.Name}' as {one.Item}: {one.Severity}. It says: {string.Join(" | ", findings.Where(finding => finding.Item == one.Item).Select(finding => $"{finding.Severity}: {finding.Message}"))}");
            }
        }
        if (planted.Any(one => one.Severity == FindingSeverity.Blocks)) await RequireRefusedAsync(driver, request, name, cancellationToken);
        if (!ContentOf(host.Folder).SequenceEqual(before)) throw new RefutedException($"With {name} something was written before the restore was refused.");
    }

    private static async Task RequireRefusedAsync(IHypervisor driver, RestoreRequest request, string name, CancellationToken cancellationToken)
    {
        try
        {
            await using var restore = await driver.BeginRestoreAsync(request, cancellationToken);
        }
        catch (FaultException)
        {
            return;
        }
        throw new RefutedException($"With {name} the restore was begun.");
    }

    private static async Task<IReadOnlyList<RestoreFinding>> CheckAsync(IHypervisor driver, RestoreRequest request, string? swallowed, CancellationToken cancellationToken) =>
        [.. (await driver.CheckRestoreAsync(request, cancellationToken)).Where(finding => finding.Item != swallowed)];

    /// <summary>Both want another folder, length or option of the same kind.</summary>
    private static bool Collide(Incompatibility first, Incompatibility second)
    {
        string[] folders = ["folder", "storage", "space"];
        string[] disks = ["space", "disk", "sector size"];
        string[] firmwares = ["firmware", "secure boot"];
        return new[] { folders, disks, firmwares }.Any(kind => kind.Contains(first.Item) && kind.Contains(second.Item));
    }

    private StoredMachine Machine(Host host) => new(Directory.CreateDirectory(Path.Combine(host.Folder, $"m{_folders++}")).FullName, "pc-q35-7.2");

    private static List<string> ContentOf(string folder) =>
        [.. Directory.EnumerateFileSystemEntries(folder, "*", SearchOption.AllDirectories).Select(path => File.Exists(path) ? $"{path} {new FileInfo(path).Length}" : path).Order(StringComparer.Ordinal)];
}

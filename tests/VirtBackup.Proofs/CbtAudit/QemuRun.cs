using System.Security.Cryptography;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CbtAudit;

/// <summary>
/// A disk of a real QEMU with its own dirty bitmaps, read by the real driver; one told block is kept back. Within a rotation
/// a run notices, and its point is what qemu-img reads of the image.
/// </summary>
internal sealed class QemuRun(ProofOptions options, int trial) : IAsyncDisposable
{
    private const int Runs = 3;
    private const int DiskBytes = 16 << 20;
    private const int Block = FakeDisk.Block;
    private const string Node = "audited";

    private readonly Random _random = options.RandomOf(trial, 0);
    private readonly LabDirectory _scratch = new();
    private readonly AuditedSite _site = new(
        options, $"{trial}-qemu", options.RandomOf(trial, 1).Next(), TimeProvider.System, MapShape.Of(Chunker.ContentDefined, 14), Runs, options.Sabotage == CbtAuditProof.SamePlace);

    private LabVm? _vm;

    /// <returns>For each lost block, the number of the run that noticed.</returns>
    public async Task<IReadOnlyList<int>> RunAsync(CancellationToken cancellationToken)
    {
        var image = _scratch.File("audited.qcow2");
        await LabDisk.CreateRandomAsync(image, LabDiskFormat.Qcow2, DiskBytes, _random.Next(), cancellationToken);
        // In the long form the guest is up and runs; the short one has no time for its boot.
        var disk = new LabDiskOptions { NodeName = Node, UseInPlace = image };
        _vm = options.Short
            ? await LabVm.StartAsync(new LabVmOptions { Disks = [disk], ExtraArguments = ["-S"] }, cancellationToken)
            : await LabVm.BootAsync(new LabVmOptions { ExtraDisks = [disk] }, cancellationToken);
        var id = new Id16(UInt128.Parse(_vm.Uuid.ToString("N"), System.Globalization.NumberStyles.AllowHexSpecifier));
        var driver = new QemuHypervisor(
            [new QemuMachine(id, _vm.Name, _vm.QmpPath)], new QemuOptions(_scratch.File("fleece")) { FleeceFreeBytesMin = 1 << 20 }, TimeProvider.System, SystemEntropy.Instance);
        _site.Hypervisor = new ForgetfulHypervisor(driver);
        var machine = new FakeHypervisor(id, new FakeDisk(Id16.Create(new SeededEntropy(1)), Node, new byte[Block]));
        _site.Host.Machines.Add(machine);
        await _site.StartAsync();
        await _site.Host.BackUpAsync(machine, cancellationToken);
        var found = new List<int>();
        for (var i = 0; i < (options.Short ? 2 : 10); i++)
        {
            found.Add(await LoseAsync(machine, image, cancellationToken));
        }
        return found;
    }

    public async ValueTask DisposeAsync()
    {
        if (_vm is not null)
        {
            await _vm.DisposeAsync();
        }
        await _site.DisposeAsync();
        _scratch.Dispose();
    }

    private async Task<int> LoseAsync(FakeHypervisor machine, string image, CancellationToken cancellationToken)
    {
        var device = _vm!.Disk(Node).DeviceId;
        var lost = _random.Next(DiskBytes / Block);
        _site.Hypervisor!.Lost.Clear();
        _site.Hypervisor.Lost.Add((device, lost));
        await WriteAsync(lost);
        for (var run = 1; run <= Runs; run++)
        {
            await WriteAsync((lost + 1 + _random.Next((DiskBytes / Block) - 1)) % (DiskBytes / Block));
            var point = await _site.Host.BackUpAsync(machine, cancellationToken);
            if (_site.Host.Progress.ToMessage().AuditMisses == 0)
            {
                continue;
            }
            await RequireImageAsync(machine, point, image, cancellationToken);
            return run;
        }
        throw new RefutedException($"QEMU told of a change of block {lost} that was kept back, and {Runs} runs, in which the audit should have read everything, did not notice.");
    }

    /// <summary>Writes into a block of the running QEMU's disk; its bitmaps see it.</summary>
    private async Task WriteAsync(long block)
    {
        var command = $"qemu-io -d /machine/peripheral/{_vm!.Disk(Node).DeviceId}/virtio-backend \\\"write -P {_random.Next(256)} {(block * Block) + (512 * _random.Next(64))} {512 * (1 + _random.Next(64))}\\\"";
        var printed = await _vm.QmpAsync("human-monitor-command", $$"""{"command-line":"{{command}}"}""");
        if (printed.GetString() is { } text && text.Contains("rror", StringComparison.Ordinal))
        {
            throw new RefutedException($"QEMU did not write: {text}");
        }
    }

    private async Task RequireImageAsync(FakeHypervisor machine, Id16 point, string image, CancellationToken cancellationToken)
    {
        var outcome = await _site.Host.RestoreAsync(machine, point);
        if (outcome.Failure is { } failure)
        {
            throw new RefutedException($"The restore failed: {failure.Message}");
        }
        var name = _vm!.Disk(Node).DeviceId;
        var disk = (await _site.Hypervisor!.ListMachinesAsync(cancellationToken))[0].Disks.Single(disk => disk.Name == name);
        var restored = new byte[DiskBytes];
        foreach (var write in outcome.Writes.Where(write => write.Disk == disk.Id))
        {
            write.Bytes.CopyTo(restored, write.Offset);
        }
        if (Convert.ToHexStringLower(SHA256.HashData(restored)) != await LabDisk.Sha256Async(image, LabDiskFormat.Qcow2, inUse: true, cancellationToken))
        {
            throw new RefutedException($"The point {point} of the run that noticed is not what the disk holds.");
        }
    }
}

using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CbtAudit;

/// <summary>
/// Loses one block, and goes on backing up: within one rotation a run notices, reads in full, and its point is what the disk
/// holds, as a restore shows.
/// </summary>
internal sealed class RotationRun(SingleThread thread, ProofOptions options, int trial) : IAsyncDisposable
{
    private const int Runs = 6;
    private const int DiskBytes = 4 << 20;

    private readonly Random _random = options.RandomOf(trial, 2);
    private readonly AuditedSite _site = new(
        options, $"{trial}-rotation", options.RandomOf(trial, 3).Next(), thread.Clock, MapShape.Of(trial % 4 < 2 ? Chunker.Fixed : Chunker.ContentDefined, 12), Runs,
        options.Sabotage == CbtAuditProof.SamePlace);

    /// <returns>For each lost block, the number of the run that noticed.</returns>
    public async Task<IReadOnlyList<int>> RunAsync(int blocks, CancellationToken cancellationToken)
    {
        var content = new byte[DiskBytes];
        _random.NextBytes(content);
        content.AsSpan(DiskBytes / 2, DiskBytes / 4).Clear();
        var machine = _site.Host.AddMachine(content);
        machine.Reach = ReadReach.Everything;
        await _site.StartAsync();
        await _site.Host.BackUpAsync(machine, cancellationToken);
        var found = new List<int>();
        for (var i = 0; i < blocks; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            found.Add(await LoseAsync(machine, cancellationToken));
        }
        return found;
    }

    public ValueTask DisposeAsync() => _site.DisposeAsync();

    private async Task<int> LoseAsync(FakeHypervisor machine, CancellationToken cancellationToken)
    {
        var disk = machine.Disks[0];
        var lost = _random.Next(DiskBytes / FakeDisk.Block);
        _site.Hypervisor!.Lost.Clear();
        _site.Hypervisor.Lost.Add((disk.Summary.Name, lost));
        Write(disk, lost);
        for (var run = 1; run <= Runs; run++)
        {
            // The guest writes elsewhere, too.
            Write(disk, (lost + 1 + _random.Next((DiskBytes / FakeDisk.Block) - 1)) % (DiskBytes / FakeDisk.Block));
            var point = await _site.Host.BackUpAsync(machine, cancellationToken);
            if (_site.Host.Progress.ToMessage().AuditMisses == 0)
            {
                continue;
            }
            await _site.RequireAsync(machine, point, new Dictionary<Id16, byte[]> { [disk.Summary.Id] = disk.Content });
            return run;
        }
        throw new RefutedException($"A change of block {lost} was lost, and {Runs} runs, in which the audit should have read everything, did not notice.");
    }

    private void Write(FakeDisk disk, long block)
    {
        var bytes = new byte[1 + _random.Next(FakeDisk.Block - 1)];
        _random.NextBytes(bytes);
        disk.Write(block * FakeDisk.Block, bytes);
    }
}

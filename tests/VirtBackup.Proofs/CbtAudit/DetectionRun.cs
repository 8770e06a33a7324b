using System.Globalization;
using System.Text.RegularExpressions;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CbtAudit;

/// <summary>
/// Loses so many blocks at random places in each of many incremental runs, each broken off behind its audit and undone, and
/// counts in how many the audit noticed.
/// </summary>
internal sealed partial class DetectionRun(SingleThread thread, ProofOptions options, int trial) : IAsyncDisposable
{
    private const int Runs = 30;
    private const int HonestBlocks = 20;
    private const int Block = FakeDisk.Block;

    private readonly int _diskBytes = options.Short ? 16 << 20 : 64 << 20;
    private readonly Random _random = options.RandomOf(trial, 0);
    private readonly AuditedSite _site = new(
        options, $"{trial}-detection", options.RandomOf(trial, 1).Next(), thread.Clock, MapShape.Of(trial % 4 < 2 ? Chunker.Fixed : Chunker.ContentDefined, 14), Runs, standStill: false);

    private readonly Dictionary<long, int> _changed = [];
    private FakeHypervisor _machine = null!;
    private Id16 _base;

    public async Task PrepareAsync()
    {
        var content = new byte[_diskBytes];
        _random.NextBytes(content);
        // An eighth is zeros, as of every disk.
        content.AsSpan(_diskBytes / 4, _diskBytes / 8).Clear();
        _machine = _site.Host.AddMachine(content);
        _machine.Reach = ReadReach.Everything;
        await _site.StartAsync();
        _base = await _site.Host.BackUpAsync(_machine, CancellationToken.None);
        var hypervisor = _site.Hypervisor!;
        _site.Bases.IsFrozen = true;
        hypervisor.IsOver = () => _site.Host.Progress.Phase == "reading";
        hypervisor.Seen = options.Sabotage is CbtAuditProof.Blind or CbtAuditProof.HalfBlind ? SeeBase : null;
    }

    /// <summary>So many trials with so many lost blocks.</summary>
    /// <returns>In how many the audit noticed, and the mean of the probabilities that the runs printed.</returns>
    public async Task<(int Detected, double Probability)> CountAsync(int trials, int lost, CancellationToken cancellationToken)
    {
        var (detected, sum) = (0, 0.0);
        for (var i = 0; i < trials; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var (isDetected, probability) = await TryAsync(lost);
            detected += isDetected ? 1 : 0;
            sum += probability;
        }
        return (detected, sum / trials);
    }

    public ValueTask DisposeAsync() => _site.DisposeAsync();

    private async Task<(bool IsDetected, double Probability)> TryAsync(int lost)
    {
        var disk = _machine.Disks[0];
        _changed.Clear();
        while (_changed.Count < lost + HonestBlocks)
        {
            _changed[_random.Next(_diskBytes / Block)] = _random.Next(Block);
        }
        var places = _changed.Select(static change => (change.Key * Block) + change.Value).ToList();
        foreach (var place in places)
        {
            disk.Write(place, [(byte)~disk.Content[place]]);
        }
        _site.Hypervisor!.Lost.Clear();
        _site.Hypervisor.Lost.UnionWith(_changed.Keys.Take(lost).Select(block => (disk.Summary.Name, block)));
        try
        {
            await _site.Host.BackUpAsync(_machine, CancellationToken.None);
            throw new RefutedException("A run that should have been broken off was not.");
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.SnapshotLost)
        {
            // As planned.
        }
        foreach (var place in places)
        {
            disk.Content[place] = (byte)~disk.Content[place];
        }
        disk.Tracking[_base].Clear();
        return (_site.Host.Progress.ToMessage().AuditMisses > 0, Printed(_site.Host.Progress.TakeLog(), lost));
    }

    /// <summary>What the run said that it would find.</summary>
    private static double Printed(IReadOnlyList<string> log, int lost)
    {
        var line = log.FirstOrDefault(static line => line.StartsWith("This run's audit finds", StringComparison.Ordinal))
            ?? throw new RefutedException("The run did not print what its audit finds.");
        var printed = Odds().Match(line);
        return double.Parse(printed.Groups[lost switch { 1 => 1, 10 => 2, _ => 3 }].Value, CultureInfo.InvariantCulture) / 100;
    }

    /// <summary>Planted defect: the audit sees what the base holds, everywhere or in every other block.</summary>
    private byte[]? SeeBase(string name, long block)
    {
        var disk = _machine.Disks[0];
        if (!_site.Hypervisor!.Lost.Contains((name, block)) || (options.Sabotage == CbtAuditProof.HalfBlind && block % 2 == 0))
        {
            return null;
        }
        var content = disk.Content.AsSpan((int)(block * Block), Block).ToArray();
        content[_changed[block]] = (byte)~content[_changed[block]];
        return content;
    }

    [GeneratedRegex("1 lost block of 64 KiB with ([0-9.]+) %, 10 with ([0-9.]+) %, 100 with ([0-9.]+) %")]
    private static partial Regex Odds();
}

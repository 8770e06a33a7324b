using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.ObjectStores;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Repository.Verification;
using VirtBackup.Sealing;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.FlipBytes;

/// <summary>A repository in a folder, made by the real roles: two machines that share chunks, two points each. Then damage.</summary>
internal sealed class FlipRun : IAsyncDisposable
{
    public static readonly (string Name, string What)[] Defects =
    [
        ("skip-signatures", "verifications do not look at signatures"),
        ("skip-chunks", "verifications do not open chunks"),
        ("write-wrongly", "restores write other bytes than they read"),
    ];

    private readonly string? _defect;
    private readonly Random _random;
    private readonly string _folder = Directory.CreateTempSubdirectory("virtbackup-flip-bytes-").FullName;
    private readonly LocalFolderStore _store;
    private readonly Site _site;
    private readonly Host _host;
    private Census _census = null!;

    public FlipRun(SingleThread thread, ProofOptions options, int trial)
    {
        _defect = options.Sabotage;
        _random = options.RandomOf(trial, 0);
        var entropy = new SeededEntropy(_random.Next());
        _store = LocalFolderStore.Open(_folder);
        _site = new Site(entropy, thread.Clock, _random.Next(300, 1500) << 10);
        _host = new Host(_site, entropy, thread.Clock);
        // Of the first machine a few chunks lie in both; some machines have a map of more than one leaf.
        var length = _random.Next(3) == 0 ? (16 << 20) + _random.Next(1 << 20) : _random.Next(4 * DiskContent.Chunk, 2 << 20);
        var first = DiskContent.Create(_random, length, 4);
        _random.NextBytes(first.AsSpan(0, 2 * DiskContent.Chunk));
        var second = DiskContent.Create(_random, _random.Next(4 * DiskContent.Chunk, 2 << 20), 3);
        first.AsSpan(0, 2 * DiskContent.Chunk).CopyTo(second.AsSpan(DiskContent.Chunk));
        _host.AddMachine(first);
        _host.AddMachine(second, DiskContent.Create(_random, 300_001, 2));
    }

    public long Restores { get; private set; }

    public int Flips { get; private set; }

    public async Task RunAsync(Func<bool> isLate)
    {
        await MakeAsync();
        await RequireSoundAsync();
        foreach (var regions in Region.ListOf(_census).Where(region => region.Length > 0).GroupBy(region => region.Kind).OrderBy(group => group.Key))
        {
            var candidates = regions.ToList();
            var region = candidates[_random.Next(candidates.Count)];
            var (position, mask) = (region.Start + _random.Next(region.Length), (byte)_random.Next(1, 256));
            if (isLate())
            {
                return;
            }
            try
            {
                await FlipAsync(region, position, mask);
            }
            catch (Exception failure)
            {
                throw new RefutedException(
                    $"{region.Kind}, byte {position} of {region.Key} XOR 0x{mask:x2}: {(failure is RefutedException ? failure.Message : failure.ToString())}");
            }
            Flips++;
        }
        await RequireSoundAsync();
    }

    public async ValueTask DisposeAsync()
    {
        _host.Dispose();
        await _site.DisposeAsync();
        _store.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private async Task MakeAsync()
    {
        await _site.InitializeAsync(_store);
        await _site.BootAsync(_store, new Power(), false, false);
        await _host.EnrollAsync();
        foreach (var machine in _host.Machines)
        {
            await _host.BackUpAsync(machine, CancellationToken.None);
        }
        foreach (var machine in _host.Machines)
        {
            var data = new byte[_random.Next(1, 2 * DiskContent.Chunk)];
            _random.NextBytes(data);
            machine.Disks[0].Write(_random.Next(machine.Disks[0].Content.Length - data.Length), data);
            await _host.BackUpAsync(machine, CancellationToken.None);
        }
        // A controller remembers the keys that it stored since it began: this one has to read them.
        await _site.BootAsync(_store, new Power(), false, false);
        await _host.RestartAsync(enroll: false);
        _census = await Census.TakeAsync(_store);
    }

    private async Task RequireSoundAsync()
    {
        using var proven = new ProvenObjects();
        foreach (var (point, manifest) in _census.Points)
        {
            _census.RequirePoint(manifest, _site.Escrow, _host.Sources[point].Disks, proven);
        }
        foreach (var withKeys in new[] { false, true })
        {
            var report = await VerifyAsync(withKeys);
            if (!report.IsSound)
            {
                throw new RefutedException($"A sound repository is called damaged: {report.Damages[0]}");
            }
        }
    }

    private async Task FlipAsync(Region region, int position, byte mask)
    {
        var damaged = _census.Objects[region.Key].ToArray();
        damaged[position] ^= mask;
        if (region.Kind == RegionKind.ManifestForged)
        {
            SHA256.HashData(damaged.AsSpan(0, damaged.Length - Id32.Size), damaged.AsSpan(damaged.Length - Id32.Size));
        }
        Overwrite(region.Key, damaged);
        try
        {
            await RequireNamedAsync(region, damaged, withKeys: false);
            var lost = await RequireNamedAsync(region, damaged, withKeys: true);
            foreach (var (point, (machine, source)) in _host.Sources)
            {
                await RequireRefusedOrEqualAsync(region, lost, point, machine, source);
            }
        }
        finally
        {
            Overwrite(region.Key, _census.Objects[region.Key]);
        }
    }

    /// <summary>The verification names the damaged object, nothing else, and exactly what it takes away.</summary>
    private async Task<Losses> RequireNamedAsync(Region region, byte[] damaged, bool withKeys)
    {
        var expected = Losses.Expected(_census, region, withKeys);
        var report = await VerifyAsync(withKeys);
        var named = string.Join(", ", report.Damages.Select(damage => damage.ObjectKey).Distinct());
        var wanted = IsHarmless(region, damaged) ? "" : region.Key;
        var how = withKeys ? "with keys" : "without keys";
        if (named != wanted)
        {
            throw new RefutedException($"A verification {how} should blame '{wanted}', but blames '{named}': {string.Join(" ", report.Damages.Select(damage => damage.Problem))}");
        }
        var found = Losses.Of(report.Damages);
        return found.ToString() == expected.ToString()
            ? expected
            : throw new RefutedException($"A verification {how} should report the loss of {expected}, but reports {found}.");
    }

    private async Task RequireRefusedOrEqualAsync(Region region, Losses lost, Id16 point, Id16 machine, IReadOnlyDictionary<Id16, byte[]> source)
    {
        var outcome = await _host.RestoreAsync(_host.Machines.Single(candidate => candidate.Machine == machine), point, _defect == "write-wrongly");
        Restores++;
        outcome.RequireTrue(point, source);
        var isManifestLost = region.Key == ObjectKeys.Manifest(machine, point);
        var isAffected = isManifestLost || lost.Points.Contains(point);
        if (isAffected != (outcome.Failure is not null))
        {
            throw new RefutedException(
                $"The restore of point {point} should {(isAffected ? "be refused" : "succeed")}: {outcome.Failure?.Message ?? "it succeeded"}");
        }
        if (outcome.Writes.Any(write => isManifestLost || lost.Overlaps(point, write)))
        {
            throw new RefutedException($"The restore of point {point} wrote bytes that cannot be known.");
        }
    }

    private async Task<VerificationReport> VerifyAsync(bool withKeys)
    {
        using var keyholder = new Keyholder(_store, _site.Escrow, _site.Repository.Head.Uuid);
        using var chunks = new EscrowedChunkOpener(keyholder, _site.Repository.Head);
        return await _site.Repository.VerifyAsync(
            new VerificationOptions
            {
                Signatures = _defect == "skip-signatures" ? new NoSignatureCheck() : new KeptSignatures(_store),
                Opener = !withKeys ? null : _defect == "skip-chunks" ? new NoChunkCheck() : chunks,
            },
            CancellationToken.None);
    }

    /// <summary>The repository head is text: another kind of white space, for example, says the same.</summary>
    private bool IsHarmless(Region region, byte[] damaged)
    {
        try
        {
            return region.Kind == RegionKind.RepositoryHead && RepositoryHead.Parse(damaged).ToBytes().AsSpan().SequenceEqual(_census.Objects[region.Key]);
        }
        catch (FaultException)
        {
            return false;
        }
    }

    private void Overwrite(string key, byte[] bytes)
    {
        var path = Path.Combine(_folder, key);
        using var file = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        file.Write(bytes);
    }
}

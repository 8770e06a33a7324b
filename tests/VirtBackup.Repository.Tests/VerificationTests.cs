using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Tests;

public sealed class VerificationTests
{
    private static readonly int[] Disk = [.. Enumerable.Range(1, 40)];

    private static CancellationToken Token => World.Token;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task ASoundRepositoryHasNoDamage(bool open)
    {
        await using var world = await World.CreateAsync(options: new RepositoryOptions { PackBytesTarget = 40_000 });
        var machine = world.NewMachine(1);
        await world.BackUpAsync(machine.Point(1, Disk, tail: 5));
        await world.BackUpAsync(machine.Point(2, [.. Disk, 100, 0, 101], tail: 5));
        var report = await world.VerifyAsync(open);
        Assert.Empty(report.Damages);
        Assert.True(report.IsSound);
        Assert.Equal(2, report.Points);
        Assert.Equal((await world.Repository.GetStatisticsAsync(Token)).Packs, report.Packs);
        Assert.Equal(open ? 43 : 0, report.ChunksOpened);
    }

    /// <summary>Flips each byte of a data and a map pack that is not payload, and some that are.</summary>
    [Fact]
    public async Task EveryFlippedByteOfAPackIsFound()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, [1, 2, 3, 4, 5]);
        await world.BackUpAsync(point);
        foreach (var key in await world.KeysAsync(ObjectKeys.PacksPrefix))
        {
            var sound = await world.Store.ReadAllAsync(key, Limits.PackBytesMax, Token);
            var footer = PackFooter.Parse(sound, sound.Length);
            for (var at = 0; at < sound.Length; at += at > footer.Trailer.FooterOffset - 200 || at < 100 ? 1 : 1000)
            {
                var flipped = sound.ToArray();
                flipped[at] ^= 0x10;
                await world.ReplaceAsync(key, flipped);
                var report = await world.VerifyAsync(open: false);
                Assert.Contains(report.Damages, damage => damage.ObjectKey == key);
            }
            await world.ReplaceAsync(key, sound);
        }
        Assert.True((await world.VerifyAsync(open: true)).IsSound);
    }

    [Fact]
    public async Task AFlippedPayloadIsPinnedToItsChunkWithKeysAndToItsPackWithout()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var (first, second) = (machine.Point(1, Disk), machine.Point(2, [.. Disk, 77]));
        await world.BackUpAsync(first);
        await using (var session = world.Begin())
        {
            // As an agent would: only what the repository does not have.
            await World.SendAsync(session, RecordKind.Data, [machine.DataRecord(77)]);
            await World.SendAsync(session, RecordKind.Map, second.Nodes);
            await world.CommitAsync(session, second);
        }
        var (key, entry, pack) = await FindAsync(world, Machine.ChunkId(7));
        pack[entry.Offset + RecordHeader.Size + 2000] ^= 1;
        await world.ReplaceAsync(key, pack);
        var opened = await world.VerifyAsync(open: true);
        var range = new ByteRange(6 * 4096, 4096);
        Assert.Equal(
            new[] { first.Id, second.Id }.Order().Select(point => new AffectedRange(machine.Vm, point, Machine.Stream, range)),
            opened.Damages.SelectMany(damage => damage.Affected).OrderBy(loss => loss.Point));
        Assert.Equal(2, opened.DamageCount);
        var keyless = await world.VerifyAsync(open: false);
        var damage = Assert.Single(keyless.Damages);
        Assert.Equal(key, damage.ObjectKey);
        Assert.Contains(new AffectedRange(machine.Vm, first.Id, Machine.Stream, new ByteRange(0, 40 * 4096)), damage.Affected);
    }

    [Fact]
    public async Task ASecondCopyOfAChunkKeepsThePointSound()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        await using (var session = world.Begin())
        {
            await World.SendAsync(session, RecordKind.Data, [point.Machine.DataRecord(999), .. point.Chunks]);
        }
        var (key, entry, pack) = await FindAsync(world, Machine.ChunkId(7));
        pack[entry.Offset + 3] ^= 1;
        await world.ReplaceAsync(key, pack);
        var report = await world.VerifyAsync(open: true);
        Assert.NotEmpty(report.Damages);
        Assert.All(report.Damages, damage => Assert.Equal((key, 0), (damage.ObjectKey, damage.Affected.Count)));
    }

    [Fact]
    public async Task AMissingPackTakesWhatItHeld()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var (key, _, _) = await FindAsync(world, point.Root);
        await world.Store.DeleteAsync(key, Token);
        var damage = Assert.Single((await world.VerifyAsync(open: false)).Damages);
        Assert.Equal(key, damage.ObjectKey);
        Assert.Equal([new AffectedRange(point.Machine.Vm, point.Id, Machine.Stream, new ByteRange(0, 40 * 4096))], damage.Affected);
    }

    [Fact]
    public async Task ManifestsSignaturesKeysAndHeadsAreChecked()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var point = machine.Point(1, Disk);
        await world.BackUpAsync(point);
        var manifestKey = ObjectKeys.Manifest(machine.Vm, point.Id);
        var vmKey = ObjectKeys.VmKey(machine.Vm, machine.Epoch(1), Machine.NameOf("recipient", 1));
        var keyring = Assert.Single(await world.KeysAsync(ObjectKeys.KeyringPrefix));
        foreach (var key in new[] { manifestKey, vmKey, keyring, ObjectKeys.Format })
        {
            var sound = await world.Store.ReadAllAsync(key, Limits.ManifestBytesMax, Token);
            var flipped = sound.ToArray();
            flipped[sound.Length / 2] ^= 1;
            await world.ReplaceAsync(key, flipped);
            Assert.Contains((await world.VerifyAsync(open: false)).Damages, damage => damage.ObjectKey == key);
            await world.Store.DeleteAsync(key, Token);
            Assert.Contains((await world.VerifyAsync(open: false)).Damages, damage => key.StartsWith(damage.ObjectKey, StringComparison.Ordinal));
            Assert.True(await world.Store.PutAsync(key, sound, Token));
        }
        // A manifest whose hash was made right again, but whose signature was not.
        var forged = (await world.Store.ReadAllAsync(manifestKey, Limits.ManifestBytesMax, Token)).ToArray();
        forged[^40] ^= 1;
        SHA256.HashData(forged.AsSpan(0, forged.Length - 32)).CopyTo(forged, forged.Length - 32);
        Assert.Equal(point.Head.Point, Manifest.Parse(forged).Head.Point);
        await world.ReplaceAsync(manifestKey, forged);
        var damage = Assert.Single((await world.VerifyAsync(open: false)).Damages);
        Assert.Equal(manifestKey, damage.ObjectKey);
        Assert.Contains("signature", damage.Problem, StringComparison.Ordinal);
        Assert.Single(damage.Affected);
    }

    /// <summary>Without its key no chunk opens, which is no fault of the packs.</summary>
    [Fact]
    public async Task ADamagedKeyObjectIsBlamedAlone()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var point = machine.Point(1, Disk);
        await world.BackUpAsync(point);
        var vmKey = ObjectKeys.VmKey(machine.Vm, machine.Epoch(1), Machine.NameOf("recipient", 1));
        var bytes = await world.Store.ReadAllAsync(vmKey, Limits.ManifestBytesMax, Token);
        bytes[^1] ^= 1;
        await world.ReplaceAsync(vmKey, bytes);
        var options = new VerificationOptions { Signatures = new HashSignatures(), Opener = new LockedOpener() };
        var damage = Assert.Single((await world.Repository.VerifyAsync(options, Token)).Damages);
        Assert.Equal((vmKey, point.Id), (damage.ObjectKey, Assert.Single(damage.Affected).Point));
    }

    /// <summary>One point's verification reads its packs and no others, and blames only what the point feels.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task OnePointIsVerifiedByItself(bool open)
    {
        await using var world = await World.CreateAsync(options: new RepositoryOptions { PackBytesTarget = 40_000 });
        var (left, right) = (world.NewMachine(1), world.NewMachine(2));
        var (first, second) = (left.Point(1, Disk), left.Point(2, [.. Disk[..20], 200, .. Disk[21..]]));
        var other = right.Point(1, [.. Enumerable.Range(1000, 40)]);
        foreach (var point in new[] { first, second, other })
        {
            await world.BackUpAsync(point);
        }
        var all = await world.VerifyAsync(open);
        foreach (var point in new[] { first, second, other })
        {
            var report = await VerifyPointAsync(world, point.Id, open);
            Assert.True(report.IsSound);
            Assert.Equal((1, open ? 40 : 0), (report.Points, report.ChunksOpened));
            Assert.InRange(report.Packs, 2, all.Packs - 1);
        }

        // A chunk that only the second point has, one that both share, and a node of the other machine.
        var (own, shared, foreign) = (Machine.ChunkId(200), Machine.ChunkId(7), other.Root);
        foreach (var (id, hurt) in new[] { (own, new[] { second.Id }), (shared, [first.Id, second.Id]), (foreign, [other.Id]) })
        {
            var (key, entry, pack) = await FindAsync(world, id);
            var flipped = pack.ToArray();
            flipped[entry.Offset + RecordHeader.Size + 3] ^= 1;
            await world.ReplaceAsync(key, flipped);
            foreach (var point in new[] { first, second, other })
            {
                var report = await VerifyPointAsync(world, point.Id, open: true);
                Assert.Equal(hurt.Contains(point.Id), !report.IsSound);
                Assert.All(report.Damages, damage => Assert.Equal(key, damage.ObjectKey));
            }
            await world.ReplaceAsync(key, pack);
        }
        await world.Store.DeleteAsync(ObjectKeys.Manifest(left.Vm, second.Id), Token);
        Assert.Contains("missing", Assert.Single((await VerifyPointAsync(world, second.Id, open)).Damages).Problem);
        var unknown = await Assert.ThrowsAsync<FaultException>(async () => await VerifyPointAsync(world, Machine.NameOf("point", 99), open));
        Assert.Equal(FaultReason.NotFound, unknown.Reason);
    }

    [Fact]
    public async Task AVerificationCanBeCancelled()
    {
        await using var world = await World.CreateAsync();
        await world.BackUpAsync(world.NewMachine(1).Point(1, Disk));
        using var cancelling = new CancellationTokenSource();
        var options = new VerificationOptions { Signatures = new HashSignatures(), Progress = new Reaction(cancelling.Cancel) };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await world.Repository.VerifyAsync(options, cancelling.Token));
    }

    private static ValueTask<VerificationReport> VerifyPointAsync(World world, Id16 point, bool open) => world.Repository.VerifyAsync(
        new VerificationOptions { Point = point, Signatures = new HashSignatures(), Opener = open ? new HashOpener() : null }, Token);

    /// <summary>The first pack that holds the object.</summary>
    private static async Task<(string Key, PackEntry Entry, byte[] Pack)> FindAsync(World world, Id32 id)
    {
        foreach (var key in await world.KeysAsync(ObjectKeys.PacksPrefix))
        {
            var pack = await world.Store.ReadAllAsync(key, Limits.PackBytesMax, Token);
            foreach (var entry in PackFooter.Parse(pack, pack.Length).Entries.ToArray())
            {
                if (entry.Header.Id == id)
                {
                    return (key, entry, pack);
                }
            }
        }
        throw new InvalidOperationException($"No pack holds {id}.");
    }

    private sealed class Reaction(Action react) : IProgress<VerificationProgress>
    {
        public void Report(VerificationProgress value) => react();
    }
}

/// <summary>Has no key.</summary>
internal sealed class LockedOpener : IChunkOpener
{
    public ValueTask OpenAsync(Id16 vm, MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken) =>
        throw FaultException.Corrupt("The key is damaged.");
}

using VirtBackup.Core;
using VirtBackup.Proofs.FlipBytes;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Testing.Proofs;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>
/// The device goes bad under one pack, while others work. A scrub takes out of use what is lost and nothing else, names
/// every point that lacks something and no other, and what agents send and another place has makes all of them whole.
/// </summary>
/// <param name="untilDone">Does something in fair weather, again if the power fails meanwhile.</param>
internal sealed class Harming(
    Site site, Func<SimulatedStore> store, IReadOnlyList<Host> hosts, Ledger ledger, Deeds deeds, CensusSource elsewhere, Random random, Coverage coverage, Func<Func<Task>, Task> untilDone)
{
    private const int BesideMax = 2;

    private static readonly Deed[] Beside = [Deed.BackUp, Deed.Restore, Deed.Forget];

    private readonly Dictionary<string, byte[]?> _damaged = new(StringComparer.Ordinal);
    private readonly List<Rot> _over = [];

    /// <summary>Packs that are not what they were, and what a census takes them to be: what they were until all is healed, and nothing from then on.</summary>
    public IReadOnlyDictionary<string, byte[]?> Damaged => _damaged;

    /// <param name="mayLose">
    /// The pack may be gone altogether. A controller that starts before the scrub has found that makes its index anew without
    /// the pack, and asks no other place for what it does not know of.
    /// </param>
    /// <param name="seeThrough">Waits for deeds through a failure of the power.</param>
    public async Task RunAsync(bool mayLose, Func<Task, Task> seeThrough)
    {
        var whole = await Census.TakeAsync(store());
        if (Rot.Plant(random, store(), whole, IndexLines.Located(await site.DumpAsync()), mayLose) is not { } rot)
        {
            return;
        }
        deeds.MayTakeDays = false;
        _damaged[rot.Key] = rot.Original;
        try
        {
            await RunAsync(rot, whole, seeThrough);
        }
        catch (RefutedException refuted)
        {
            throw new RefutedException($"After {rot.What}: {refuted.Message}");
        }
        deeds.MayTakeDays = true;
        if ((await ListPacksAsync()).Contains(rot.Key))
        {
            await ReadRightAgainAsync(rot);
            return;
        }
        _damaged[rot.Key] = null;
        _over.Add(rot);
        foreach (var host in hosts)
        {
            host.Acknowledged.Excuse(whole.Packs[rot.Key].Select(record => record.Entry.Header));
        }
    }

    private async Task RunAsync(Rot rot, Census whole, Func<Task, Task> seeThrough)
    {
        coverage.Count("rot:planted");
        deeds.MayFail = true;
        var others = Enumerable.Range(0, random.Next(BesideMax + 1)).Select(_ => Beside[random.Next(Beside.Length)]).Order().ToList();
        await seeThrough(Task.WhenAll([.. others.Select(deeds.Begin).OfType<Task>(), deeds.ScrubAsync("repair", mayFind: true)]));
        await untilDone(() => deeds.ScrubAsync("repair", mayFind: true));
        var damaged = await RequireNamedAsync(rot);
        coverage.Count("rot:points", damaged.Count);
        if (ledger.Visible.Except(damaged).ToList() is { Count: > 0 } sound)
        {
            var point = sound[random.Next(sound.Count)];
            await untilDone(() => deeds.RestoreAsync(point));
        }
        if (random.Next(3) > 0)
        {
            await SendAgainAsync(damaged);
            if (rot.IsOfChunks && await RequireNamedAsync(rot) is { Count: > 0 } left)
            {
                throw new RefutedException($"Full backups of what they hold do not make the points {string.Join(", ", left)} whole.");
            }
        }
        elsewhere.Census = whole;
        await untilDone(() => deeds.ScrubAsync("heal", mayFind: true));
        elsewhere.Census = null;
        if (await site.Repository.Upkeep.ListDamagedPointsAsync(CancellationToken.None) is [var lost, ..])
        {
            throw new RefutedException($"Another place has all that is lost, but point {lost.Point} is not whole again.");
        }
    }

    /// <summary>A pack of which something is in doubt stays where it is. The device gives it out right at last, which ends the doubt.</summary>
    private async Task ReadRightAgainAsync(Rot rot)
    {
        coverage.Count("rot:in-place");
        store().Rot(rot.Key, _ => rot.Original);
        _damaged.Remove(rot.Key);
        await untilDone(() => deeds.ScrubAsync("repair", mayFind: true));
        if ((await site.DumpAsync()).FirstOrDefault(static line => line.Contains(" doubtful ", StringComparison.Ordinal)) is { } doubt)
        {
            throw new RefutedException($"{rot.What}, and is right again, but the index still says: {doubt}");
        }
    }

    /// <summary>Leaves out packs that are sound again: an agent or a collection may store all of it in its order, now or much later.</summary>
    public async Task ForgetReplacedAsync()
    {
        foreach (var rot in _over.ToList())
        {
            if (await IsReplacedAsync(rot))
            {
                _damaged.Remove(rot.Key);
                _over.Remove(rot);
            }
        }
    }

    private async Task<HashSet<string>> ListPacksAsync() => IndexLines.Packs(await site.DumpAsync());

    /// <summary>Whether all of it was sent again in its order, which makes a pack of its name.</summary>
    private async Task<bool> IsReplacedAsync(Rot rot) =>
        await store().FindAsync(rot.Key, CancellationToken.None) is not null
            && (await store().ReadAllAsync(rot.Key, rot.Original.Length, CancellationToken.None)).AsSpan().SequenceEqual(rot.Original);

    /// <summary>Machines are set back to what damaged points hold, and read in full.</summary>
    private async Task SendAgainAsync(IReadOnlyList<Id16> points)
    {
        foreach (var point in points)
        {
            var (machine, disks) = hosts.First(host => host.Sources.ContainsKey(point)).Sources[point];
            await untilDone(() => deeds.BackUpAsync(machine, disks));
        }
        await untilDone(() => deeds.ScrubAsync("repair", mayFind: true));
    }

    /// <summary>Proves that exactly those bytes of exactly those points are called lost that the maps say are.</summary>
    /// <returns>The points.</returns>
    private async Task<IReadOnlyList<Id16>> RequireNamedAsync(Rot rot)
    {
        Stage.Enter("check");
        var expected = await IsReplacedAsync(rot) ? new Losses() : rot.LossesOf(await Census.TakeAsync(store(), _damaged), await ListPacksAsync());
        var found = new Losses();
        var points = new List<Id16>();
        foreach (var point in await site.Repository.Upkeep.ListDamagedPointsAsync(CancellationToken.None))
        {
            points.Add(point.Point);
            foreach (var loss in await site.Repository.Upkeep.FindLossesAsync(point.Point, CancellationToken.None))
            {
                found.Add(loss.Range.Point, loss.Range.Stream, loss.Range.Range);
            }
        }
        if (expected.ToString() != found.ToString() || !expected.Points.Order().SequenceEqual(points.Order()))
        {
            throw new RefutedException($"Lost are {expected}, but the points {string.Join(", ", points)} are named, with {found}.");
        }
        if (points.Count > 0 && !(await site.Role.Admin.ListDamagesAsync(new ListDamagesRequest(), CancellationToken.None)).Damages.Any(damage => damage.Object == rot.Key))
        {
            throw new RefutedException("Nobody is told of the damage.");
        }
        return points;
    }
}

using System.Globalization;
using System.Text.RegularExpressions;
using VirtBackup.Core;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Rebuild.Histories;

/// <summary>
/// Small repositories with a past: machines and clones of them, backups that were never committed, points forgotten, recalled
/// and purged, packs written anew. Each index that grew is compared with what a rebuild makes of the store, and the history goes
/// on with the rebuilt one.
/// </summary>
internal sealed partial class RandomHistories(ProofOptions options, int trial)
{
    private const int Operations = 30;
    private const int Machines = 4;

    /// <summary>Until nothing is left of what no point needs.</summary>
    private const int DaysAlone = 14;

    /// <summary>Opening, packs, scopes, keys, rows, points: so many transactions and a few more has a rebuild of such a repository.</summary>
    private const int TransactionsMax = 9;

    public int Done { get; private set; }

    public int Compared { get; private set; }

    public int CutOff { get; private set; }

    public long Lines { get; private set; }

    public async Task RunAsync(int histories, Func<bool> isLate, CancellationToken cancellationToken)
    {
        for (; Done < histories && (Done == 0 || !isLate()); Done++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            await RunOneAsync(options.RandomOf(trial, 100 + Done));
        }
    }

    private async Task RunOneAsync(Random random)
    {
        await using var repository = await WrittenRepository.CreateAsync();
        var disks = new Dictionary<int, (int Number, int[] Disk)>();
        var (visible, forgotten) = (new List<(Id16 Vm, Id16 Point)>(), new List<(Id16 Vm, Id16 Point)>());
        for (var operation = 1; operation <= Operations; operation++)
        {
            switch (random.Next(8))
            {
                case < 4:
                    var point = Change(random, disks);
                    var commits = random.Next(5) > 0;
                    await repository.BackUpAsync(point, commits);
                    if (commits)
                    {
                        visible.Add((point.Machine.Vm, point.Id));
                    }
                    break;
                case 4 when visible.Count > 0:
                    var which = visible[random.Next(visible.Count)];
                    await repository.Repository.ForgetAsync(which.Point, CancellationToken.None);
                    visible.Remove(which);
                    forgotten.Add(which);
                    break;
                case 5 when forgotten.Count > 0:
                    var back = forgotten[random.Next(forgotten.Count)];
                    forgotten.Remove(back);
                    if ((await repository.Repository.ListForgottenAsync(CancellationToken.None)).Any(row => row.Point == back.Point))
                    {
                        await repository.Repository.RecallAsync(back.Vm, back.Point, CancellationToken.None);
                        visible.Add(back);
                    }
                    break;
                default:
                    repository.Pass(TimeSpan.FromHours(random.Next(1, 80)));
                    await repository.CollectAsync(random.Next(1, 60));
                    break;
            }
            if (operation is Operations / 2 or Operations)
            {
                await CompareAsync(repository, random);
            }
        }
    }

    /// <summary>The next state of one of the machines, which share content, and of which some are clones of others.</summary>
    private static PointBytes Change(Random random, Dictionary<int, (int Number, int[] Disk)> disks)
    {
        var machine = random.Next(Machines);
        if (!disks.TryGetValue(machine, out var state))
        {
            state = disks.Count > 0 && random.Next(2) == 0
                ? (0, [.. disks.Values.First().Disk])
                : (0, [.. Enumerable.Range(0, random.Next(1, 400)).Select(at => random.Next(4) == 0 ? 0 : random.Next(2) == 0 ? at + 1 : 1 + random.Next(500))]);
        }
        for (var changes = random.Next(8); changes > 0; changes--)
        {
            state.Disk[random.Next(state.Disk.Length)] = random.Next(500);
        }
        if (!Array.Exists(state.Disk, static content => content > 0))
        {
            state.Disk[0] = 1;
        }
        state.Number++;
        disks[machine] = state;
        // A later part of a disk is sealed with a later key.
        var number = state.Number;
        return WrittenRepository.NewMachine(machine).Point(number, [.. state.Disk], at => at > 200 && number > 2 ? 2 : 1);
    }

    private async Task CompareAsync(WrittenRepository repository, Random random)
    {
        for (var day = 0; day < DaysAlone; day++)
        {
            repository.Pass(TimeSpan.FromDays(1));
            await repository.CollectAsync(deadPercent: 1);
        }
        var grown = await repository.DumpAsync();
        CutOff += await repository.RebuildAsync(random.Next(2) == 0 ? random.Next(TransactionsMax) : null) ? 1 : 0;
        var rebuilt = await repository.DumpAsync();
        RequireEqual(grown, rebuilt);
        Compared++;
        Lines += grown.Count;
        var audit = await repository.Repository.AuditAsync(CancellationToken.None);
        if (audit is not { IsSound: true, CountedTooOften: 0 }) throw new RefutedException($"the rebuilt counts are wrong: {audit}");
    }

    /// <summary>
    /// Records too small to write their pack anew for have left the index that grew; a rebuild finds them again, as objects that
    /// nothing needs, exactly as many as their packs count as dead.
    /// </summary>
    private static void RequireEqual(IReadOnlyList<string> grown, IReadOnlyList<string> rebuilt)
    {
        var dead = grown.Sum(DeadOf);
        var foundAgain = rebuilt.Except(grown).Where(static line => line.StartsWith("object ", StringComparison.Ordinal) && line.EndsWith("count=0 holds=0", StringComparison.Ordinal)).ToList();
        var (left, right) = (grown.Select(WithoutDead).ToList(), rebuilt.Except(foundAgain).Select(WithoutDead).ToList());
        if (foundAgain.Count != dead || !left.SequenceEqual(right))
        {
            throw new RefutedException(
                $"the dumps differ: {dead} dead records, {foundAgain.Count} found again; only grown: {left.Except(right).FirstOrDefault()}; only rebuilt: {right.Except(left).FirstOrDefault()}");
        }
    }

    private static int DeadOf(string line) => DeadRecords().Match(line) is { Success: true } match ? int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture) : 0;

    private static string WithoutDead(string line) => DeadRecords().Replace(line, "");

    [GeneratedRegex(@"(?<=^pack .*) dead=(\d+) dead-bytes=\d+$")]
    private static partial Regex DeadRecords();
}

using VirtBackup.Catalog.Signals;
using VirtBackup.Core;

namespace VirtBackup.Catalog.Tests;

/// <summary>Series of runs as machines make them, and what is done to machines.</summary>
public sealed class RunJudgeTests
{
    private const long Disk = 100L << 30;
    private const double Text = 0.42;
    private const double Ciphertext = 1.0004;

    private static readonly Id16 Vm = new(7);

    private readonly List<RunRow> _runs = [];

    [Fact]
    public void The_first_runs_are_learned_from()
    {
        Assert.Equal(RunVerdict.Learning, Add(1.0, Text, isComparable: false));
        for (var i = 0; i < RunJudge.RunsMin; i++)
        {
            Assert.Equal(RunVerdict.Learning, Add(0.01, Text));
        }
        Assert.Equal(RunVerdict.Usual, Add(0.01, Text));
    }

    [Theory]
    [InlineData(0.40, Ciphertext, RunVerdict.Abnormal)]
    [InlineData(0.06, Ciphertext, RunVerdict.Abnormal)]
    [InlineData(0.12, 0.75, RunVerdict.Abnormal)]
    [InlineData(0.60, 0.30, RunVerdict.Abnormal)]
    [InlineData(0.03, 0.65, RunVerdict.Usual)]
    [InlineData(0.20, 0.45, RunVerdict.Usual)]
    [InlineData(0.03, Ciphertext, RunVerdict.Usual)]
    [InlineData(0.0, 0.0, RunVerdict.Usual)]
    public void Much_that_hardly_compresses_is_abnormal(double share, double stored, RunVerdict verdict)
    {
        Live(days: 30, seed: 1);
        Assert.Equal(verdict, Add(share, stored));
    }

    [Fact]
    public void Abnormal_runs_are_no_measure_for_later_ones_until_they_are_accepted()
    {
        Live(days: 30, seed: 2);
        for (var i = 0; i < 20; i++)
        {
            Assert.Equal(RunVerdict.Abnormal, Add(0.3, Ciphertext));
        }
        for (var i = 0; i < _runs.Count; i++)
        {
            _runs[i] = _runs[i] with { Verdict = _runs[i].Verdict == RunVerdict.Abnormal ? RunVerdict.Accepted : _runs[i].Verdict };
        }
        Assert.Equal(RunVerdict.Usual, Add(0.3, Ciphertext));
    }

    [Fact]
    public void Data_that_never_compresses_is_judged_by_its_amount()
    {
        for (var i = 0; i < 20; i++)
        {
            Add(0.01, 1.0);
        }
        Assert.Equal(RunVerdict.Usual, Add(0.4, 1.0));
        Assert.Equal(RunVerdict.Abnormal, Add(0.51, 1.0));
    }

    [Fact]
    public void Growth_and_other_ways_of_storing_are_not_new_data()
    {
        Live(days: 20, seed: 3);
        Assert.Equal(RunVerdict.Usual, Add(0.5, Ciphertext, grown: Disk / 2));
        Assert.Equal(RunVerdict.Learning, Add(1.0, Text, isComparable: false));
        // It is no measure for what follows either.
        Assert.Equal(RunVerdict.Abnormal, Add(0.4, Ciphertext));
    }

    [Fact]
    public void Few_runs_of_a_quiet_machine_suffice()
    {
        for (var i = 0; i < RunJudge.RunsMin; i++)
        {
            Add(0, 0);
        }
        Assert.Equal(RunVerdict.Usual, Add(0.005, 0.9));
        Assert.Equal(RunVerdict.Abnormal, Add(0.06, Ciphertext));
    }

    /// <summary>Nights that differ, a busy day each week, a monthly update, a new program now and then: 300 machines, a year each.</summary>
    [Fact]
    public void A_year_of_work_raises_less_than_one_flag_in_four_machines_and_the_attack_is_always_seen()
    {
        var flags = 0;
        for (var seed = 0; seed < 300; seed++)
        {
            _runs.Clear();
            flags += Live(days: 365, seed);
            Assert.Equal(RunVerdict.Abnormal, Add(0.3 + (seed % 50 / 100.0), Ciphertext));
        }
        Assert.InRange(flags, 0, 75);
    }

    private int Live(int days, int seed)
    {
        var random = new Random(seed);
        var usual = Math.Exp((random.NextDouble() * 4) - 6.5);
        var stored = 0.3 + (random.NextDouble() * 0.35);
        var flags = 0;
        Add(1.0, stored, isComparable: false);
        for (var day = 1; day < days; day++)
        {
            var share = usual * Math.Exp((random.NextDouble() - 0.5) * 1.6);
            var ratio = stored + ((random.NextDouble() - 0.5) * 0.2);
            if (day % 7 == 0)
            {
                share *= 2.5;
            }
            if (day % 30 == 0)
            {
                (share, ratio) = (share + 0.02 + (random.NextDouble() * 0.03), 0.6 + (random.NextDouble() * 0.15));
            }
            if (random.Next(100) == 0)
            {
                (share, ratio) = (share + (random.NextDouble() * 0.15), stored + (random.NextDouble() * 0.15));
            }
            flags += Add(Math.Min(share, 0.9), Math.Min(ratio, 1.0)) == RunVerdict.Abnormal ? 1 : 0;
        }
        return flags;
    }

    private RunVerdict Add(double share, double stored, bool isComparable = true, long grown = 0)
    {
        var newBytes = (long)(Disk * share);
        var run = new RunRow
        {
            PointId = new Id16((ulong)_runs.Count + 1), VmId = Vm, EndedMs = _runs.Count, LogicalBytes = Disk, GrownBytes = grown, NewBytes = newBytes,
            StoredBytes = (long)(newBytes * stored), IsComparable = isComparable,
        };
        run = run with { Verdict = RunJudge.Judge(run, _runs).Verdict };
        _runs.Add(run);
        return run.Verdict;
    }
}

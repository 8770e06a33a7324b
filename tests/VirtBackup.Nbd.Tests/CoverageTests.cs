using CsCheck;
using VirtBackup.Nbd.Wire;

namespace VirtBackup.Nbd.Tests;

public sealed class CoverageTests
{
    [Fact]
    public void AgreesWithOneMarkPerByte() =>
        Gen.Select(Gen.Int[0, 39], Gen.Int[1, 12]).Where(run => run.Item1 + run.Item2 <= 40).Array[1, 30].Sample(runs =>
        {
            var coverage = new ReadCoverage();
            var marks = new bool[40];
            foreach (var (start, length) in runs)
            {
                var free = !marks.AsSpan(start, length).Contains(true);
                Assert.Equal(free, coverage.TryAdd(start, length));
                if (free)
                {
                    marks.AsSpan(start, length).Fill(true);
                }
                Assert.Equal(!marks.Contains(false), coverage.IsComplete(40));
            }
        }, iter: 20_000);

    [Fact]
    public void RefusesToGrowWithoutBound()
    {
        var coverage = new ReadCoverage();
        for (var run = 0; run < ReadCoverage.RunsMax; run++)
        {
            Assert.True(coverage.TryAdd(run * 2, 1));
        }
        Assert.False(coverage.TryAdd(ReadCoverage.RunsMax * 2, 1));
        // Closing a gap is still possible, and makes room.
        Assert.True(coverage.TryAdd(1, 1));
        Assert.True(coverage.TryAdd(ReadCoverage.RunsMax * 2, 1));
    }
}

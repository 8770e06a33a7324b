using VirtBackup.Proofs.Simulation;

namespace VirtBackup.Proofs.CrashPoints;

/// <summary>
/// Whatever operation of the store the controller's machine loses its power before, and whichever of its databases is
/// lost too: what was acknowledged is there, what is visible is whole, and the next backup and restore work.
/// </summary>
internal sealed class CrashPointsProof : IProof
{
    private const int PointsPerShortTrial = 30;

    private long _crashes;
    private long _operations;

    public string Name => "crash-points";

    public IReadOnlyList<string> Sabotages { get; } = [.. CrashRun.Defects];

    public int DefaultTrials => 60;

    public string Figures => $"{_crashes} crash points, {_operations} store operations";

    public void Run(ProofOptions options, int trial, Func<bool> isLate)
    {
        var (first, end) = RunOnce(options, trial, null);
        // A short trial takes every n-th operation, beginning at chance.
        var stride = options.Short ? Math.Max(1, (end - first) / PointsPerShortTrial) : 1;
        var start = first + (options.RandomOf(trial, 1).Next() % stride);
        for (var at = start; at < end && !isLate(); at += stride)
        {
            var plan = CrashPlan.Draw(at, options.RandomOf(trial, 1000 + (int)at));
            try
            {
                RunOnce(options, trial, plan);
            }
            catch (Exception failure)
            {
                throw new ViolationException($"{plan}: {(failure is ViolationException ? failure.Message : failure.ToString())}");
            }
            _crashes++;
        }
    }

    private (long First, long End) RunOnce(ProofOptions options, int trial, CrashPlan? plan)
    {
        (long, long) range = default;
        SingleThread.Run(async thread =>
        {
            await using var run = new CrashRun(thread, options, trial, plan);
            range = await run.RunAsync();
            _operations += run.Operations;
        });
        return range;
    }
}

using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CrashPoints;

/// <summary>
/// Whatever operation of the store or transaction the controller's machine loses its power before or behind, and whichever
/// of its databases is lost too: what was acknowledged is there, what is visible is whole, and the next backup and restore
/// work.
/// </summary>
internal sealed class CrashPointsProof : IProof
{
    private const int PointsPerShortTrial = 30;

    private long _crashes;
    private long _operations;

    public string Name => "crash-points";

    public IReadOnlyList<(string Name, string What)> Sabotages => CrashRun.Defects;

    public (int Long, int Short) TrialsMax => (60, 60);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(15);

    public string Figures => $"{_crashes} crash points, {_operations} operations";

    public Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        foreach (var trial in trials)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Run(options, trial, () => isLate() || cancellationToken.IsCancellationRequested);
        }
        return Task.CompletedTask;
    }

    private void Run(ProofOptions options, int trial, Func<bool> isLate)
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
                throw new RefutedException($"{plan}: {(failure is RefutedException ? failure.Message : failure.ToString())}");
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

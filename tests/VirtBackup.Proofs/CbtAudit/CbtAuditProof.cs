using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CbtAudit;

/// <summary>
/// The audit of change tracking finds lost changes as often as each run prints, everything within a rotation, and the run
/// that notices makes a right point. Every other trial has a real QEMU.
/// </summary>
internal sealed class CbtAuditProof : IProof
{
    public const string SamePlace = "same-place";
    public const string Blind = "blind";
    public const string HalfBlind = "half-blind";

    private const int TrialsOfAKind = 200;

    private static readonly int[] LostBlocks = [1, 10, 100];

    private readonly CbtAuditFigures _figures = new();

    public string Name => "cbt-audit";

    public IReadOnlyList<(string Name, string What)> Sabotages =>
    [
        (SamePlace, "every run audits the same spans"),
        (Blind, "what is audited compares as equal, whatever the disk holds"),
        (HalfBlind, "so does every other block"),
    ];

    public (int Long, int Short) TrialsMax => (12, 2);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(30);

    public string Figures => _figures.ToString();

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        foreach (var trial in trials)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (trial % 2 == 1)
            {
                await using var real = new QemuRun(options, trial);
                _figures.FoundInQemu.AddRange(await real.RunAsync(cancellationToken));
                continue;
            }
            SingleThread.Run(async thread =>
            {
                await using var rotation = new RotationRun(thread, options, trial);
                _figures.FoundByRun.AddRange(await rotation.RunAsync(options.Short ? 5 : 40, cancellationToken));
            });
            SingleThread.Run(async thread =>
            {
                await using var detection = new DetectionRun(thread, options, trial);
                await detection.PrepareAsync();
                foreach (var lost in LostBlocks)
                {
                    await RequireProbableAsync(detection, lost, cancellationToken);
                }
            });
        }
    }

    /// <summary>One in a hundred right ones lies outside of the interval: what does is counted anew, once.</summary>
    private async Task RequireProbableAsync(DetectionRun run, int lost, CancellationToken cancellationToken)
    {
        for (var attempt = 1; ; attempt++)
        {
            var (detected, probability) = await run.CountAsync(TrialsOfAKind, lost, cancellationToken);
            var (low, high) = Binomial.Interval99(TrialsOfAKind, probability);
            var outcome = FormattableString.Invariant($"{lost} lost: {detected} of {TrialsOfAKind} found, printed {probability:0.0000}, 99 % lie in {low} to {high}");
            Console.WriteLine(outcome);
            if (detected >= low && detected <= high)
            {
                _figures.Add(lost, detected, TrialsOfAKind, probability, attempt > 1);
                return;
            }
            if (attempt > 1)
            {
                throw new RefutedException($"{outcome}, twice.");
            }
        }
    }
}

/// <summary>What was lost and found.</summary>
internal sealed class CbtAuditFigures
{
    private readonly SortedDictionary<int, (int Found, int Trials, double Probability)> _counts = [];
    private int _again;

    /// <summary>Numbers of the runs of a rotation that noticed.</summary>
    public List<int> FoundByRun { get; } = [];

    /// <summary>The same of a real QEMU.</summary>
    public List<int> FoundInQemu { get; } = [];

    public void Add(int lost, int found, int trials, double probability, bool isAgain)
    {
        var before = _counts.GetValueOrDefault(lost);
        _counts[lost] = (before.Found + found, before.Trials + trials, before.Probability + (probability * trials));
        _again += isAgain ? 1 : 0;
    }

    public override string ToString() =>
        string.Join(", ", _counts.Select(static count => FormattableString.Invariant($"{count.Key} lost: {count.Value.Found}/{count.Value.Trials} found, printed {count.Value.Probability / count.Value.Trials:0.000}")))
        + FormattableString.Invariant($"; counted again {_again}; single blocks found within a rotation {FoundByRun.Count}/{FoundByRun.Count}, in QEMU {FoundInQemu.Count}/{FoundInQemu.Count}");
}

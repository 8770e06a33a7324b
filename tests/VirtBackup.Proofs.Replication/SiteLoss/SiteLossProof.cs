using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.SiteLoss;

/// <summary>
/// A site is lost with all that it has while it backs up. At the other site the newest recovery points of three machines that need
/// each other, as far as they were replicated, are recovered in order. A trial is a site that is lost.
/// </summary>
internal sealed class SiteLossProof : IProof
{
    private readonly List<LossFigures> _figures = [];

    public string Name => "site-loss";

    public IReadOnlyList<(string Name, string What)> Sabotages { get; } =
    [
        (LossTrial.LoseDependency, "a dependency is removed before the recovery"),
        (LossTrial.ReadyTooSoon, "the probe of a machine that others need succeeds at once"),
        (LossTrial.OlderPoint, "the recovery takes older recovery points than the newest that came"),
    ];

    public (int Long, int Short) TrialsMax => (12, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(10);

    public string Figures => _figures.Count == 0 ? "" : FormattableString.Invariant(
        $"rpo_max={_figures.Max(static one => one.RpoSeconds):0.0}s rto_max={_figures.Max(static one => one.RtoSeconds):0.0}s backup_running={_figures.Count(static one => one.WasBackingUp)}/{_figures.Count}");

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        foreach (var trial in trials)
        {
            await using var loss = new LossTrial(options, trial);
            var figures = await loss.RunAsync(cancellationToken);
            _figures.Add(figures);
            Console.WriteLine(FormattableString.Invariant(
                $"trial {trial}: site lost {(figures.WasBackingUp ? "while it backed up" : "between backups")}; RPO {figures.RpoSeconds:0.0} s, RTO {figures.RtoSeconds:0.0} s; generations {string.Join(' ', figures.Generations)}; order {figures.Order}"));
        }
    }
}

/// <summary>What a lost site cost.</summary>
/// <param name="RpoSeconds">From the oldest of the recovered points to the loss.</param>
/// <param name="RtoSeconds">From the loss until all machines were ready.</param>
/// <param name="WasBackingUp">A backup was under way.</param>
/// <param name="Generations">What each machine's disk was written with last, in the order of the machines.</param>
/// <param name="Order">Of the starts.</param>
internal sealed record LossFigures(double RpoSeconds, double RtoSeconds, bool WasBackingUp, IReadOnlyList<int> Generations, string Order);

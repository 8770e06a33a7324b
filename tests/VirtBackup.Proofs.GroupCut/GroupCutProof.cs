using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.GroupCut;

/// <summary>Guests that are cut together hold no effect without its cause.</summary>
internal sealed class GroupCutProof : IProof
{
    private const double RateMin = 50;
    private readonly Tally _tally = new();

    public string Name => "group-cut";

    public IReadOnlyList<(string Name, string What)> Sabotages => GroupCut.Sabotages.All;

    private const int ControlTriesMax = 6;

    public (int Long, int Short) TrialsMax => (200, 2);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(10);

    public string Figures => _tally.ToString();

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        await using var stage = await Stage.SetAsync(options, _tally, cancellationToken);
        foreach (var trial in trials)
        {
            await stage.CutTogetherAsync(trial, cancellationToken);
            if (trial == options.StartTrial || trial % Stage.ControlEvery == 0)
            {
                // On a busy host the guests may say nothing to each other between two cuts.
                for (var tries = 0; tries == 0 || (_tally.ControlViolations == 0 && tries < ControlTriesMax); tries++) await stage.CutApartAsync(cancellationToken);
            }
        }
        if (_tally.ControlViolations == 0) throw new RefutedException("the guests were cut one after the other, and no effect without its cause was found: the proof would notice nothing");
        if (!options.Short && _tally.Rate < RateMin) throw new RefutedException($"the guests exchanged {_tally.Rate:0} messages a second; fewer than {RateMin:0} prove too little");
    }
}

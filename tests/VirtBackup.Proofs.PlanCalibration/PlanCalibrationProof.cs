using VirtBackup.Proofs.PlanCalibration.Incompatibilities;
using VirtBackup.Proofs.PlanCalibration.Restores;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.PlanCalibration;

/// <summary>
/// What a restore plan says is so. The P90 of restores holds in 85 to 95 % of them, whatever the load; and whatever stands in
/// the way of a restore is reported before a byte moves. A trial is a wave of one to four restores side by side.
/// </summary>
internal sealed class PlanCalibrationProof : IProof
{
    private string _replayed = "";
    private string _injected = "";
    private RestoreTally? _tally;

    public string Name => "plan-calibration";

    public IReadOnlyList<(string Name, string What)> Sabotages => PlanCalibration.Sabotages.All;

    public (int Long, int Short) TrialsMax => (120, 4);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(9);

    public string Figures => string.Join("; ", new[] { _tally?.ToString(), _replayed, _injected }.Where(static part => !string.IsNullOrEmpty(part)));

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        StartupHook.Install(options.Sabotage);
        _replayed = new ReplayedRestores(options).Run();
        Console.WriteLine(_replayed);
        _injected = await new InjectionRun(options).RunAsync(cancellationToken);
        Console.WriteLine(_injected);
        await using var run = await RestoreWaves.StartAsync(options);
        _tally = run.Tally;
        foreach (var trial in trials)
        {
            cancellationToken.ThrowIfCancellationRequested();
            await run.RunAsync(trial, cancellationToken);
        }
        await run.RequireRecordAsync();
        _tally.Require();
    }
}

using VirtBackup.Proofs.DependencyOrder.Real;
using VirtBackup.Proofs.DependencyOrder.Simulated;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.DependencyOrder;

/// <summary>
/// No machine starts before all that it needs are ready, whatever the graph and whatever fails; and the order costs no time: with
/// unlimited slots a recovery takes what its longest way takes. In imagined time for graphs of up to 50 machines, and with real
/// machines, where processes and consoles are the witnesses. A trial is 25 simulated recoveries; the real one runs once.
/// </summary>
internal sealed class DependencyOrderProof : IProof
{
    private const int RecoveriesOfTrial = 25;

    private readonly SimulationTally _simulated = new();
    private string _real = "";

    public string Name => "dependency-order";

    public IReadOnlyList<(string Name, string What)> Sabotages => DependencyOrder.Sabotages.All;

    public (int Long, int Short) TrialsMax => (800, 60);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(4);

    public string Figures => string.Join("; ", new[] { _simulated.ToString(), _real }.Where(static part => part.Length > 0));

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        foreach (var trial in trials)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var random = options.RandomOf(trial, 1);
            for (var i = 0; i < RecoveriesOfTrial; i++)
            {
                new SimulatedRecovery(random, options.Sabotage, _simulated).Run();
            }
        }
        _simulated.Require();
        Console.WriteLine(_simulated);
        if (options.Sabotage is DependencyOrder.Sabotages.ForgetEdge or DependencyOrder.Sabotages.IdleSlot)
        {
            return; // It has not been noticed: the real machines know nothing of it.
        }
        _real = await new RealRecovery(options).RunAsync(cancellationToken);
    }
}

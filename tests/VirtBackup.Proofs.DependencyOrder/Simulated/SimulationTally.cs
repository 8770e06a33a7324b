using System.Globalization;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.DependencyOrder.Simulated;

/// <summary>What the simulated recoveries came to.</summary>
internal sealed class SimulationTally
{
    public int Recoveries { get; set; }

    public int MachinesMax { get; set; }

    public int Starts { get; set; }

    public int Failures { get; set; }

    public int KeptOff { get; set; }

    public int Resumed { get; set; }

    public int Cycles { get; set; }

    /// <summary>Of more than two machines.</summary>
    public int FarCycles { get; set; }

    /// <summary>Without failures and limits: the time taken, as a share of the longest way.</summary>
    public double WorstShare { get; set; } = 1;

    /// <exception cref="RefutedException">What was to be tried did not occur.</exception>
    public void Require()
    {
        if (Recoveries >= 200 && (Failures == 0 || KeptOff == 0 || Resumed == 0 || FarCycles == 0 || MachinesMax < 40))
        {
            throw new RefutedException($"the trials did not try all that they should have: {this}");
        }
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"simulated={Recoveries} machines_max={MachinesMax} starts={Starts} failed={Failures} kept_off={KeptOff} resumed={Resumed} cycles_refused={Cycles} of_more_than_two={FarCycles} makespan_worst={WorstShare:0.000}x");
}

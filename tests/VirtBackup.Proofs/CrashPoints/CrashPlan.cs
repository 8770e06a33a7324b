using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.CrashPoints;

/// <summary>One failure of the power, and what is lost with it.</summary>
/// <param name="At">The operation before which it happens.</param>
/// <param name="Seed">What becomes of everything that was not flushed.</param>
/// <param name="ProcessOnly">Only the process dies: what the operating system was given stays.</param>
/// <param name="LoseIndex">The index database is gone; otherwise it is as its last transaction left it.</param>
/// <param name="LoseCatalog">The catalog database is gone.</param>
/// <param name="AgentGoesOn">The agent waits for the controller and goes on; otherwise it is restarted.</param>
/// <param name="AgainAt">A second failure, while the controller starts: after so many operations.</param>
internal sealed record CrashPlan(long At, int Seed, bool ProcessOnly, bool LoseIndex, bool LoseCatalog, bool AgentGoesOn, long? AgainAt)
{
    public static CrashPlan Draw(long at, Random random)
    {
        var loseCatalog = random.Next(4) == 0;
        return new CrashPlan(
            at, random.Next(), random.Next(5) == 0, random.Next(3) == 0, loseCatalog, !loseCatalog && random.Next(2) == 0, random.Next(4) == 0 ? random.Next(12) : null);
    }

    public SimulatedStore Survivor(SimulatedStore store, SimulatedStoreOptions options) => ProcessOnly ? store.Kill(options) : store.Crash(Seed, options);
}

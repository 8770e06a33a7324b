using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>
/// The whole system on one thread from one seed: agents back up, restore, die; people forget, recall, verify, delete the
/// databases; points expire; the collector frees what nobody needs any more, as days pass; the scrub reads everything, and
/// when the device has gone bad under a pack, takes it out of use and heals it; the network loses and cuts; and the
/// controller's machine loses its power once, before any operation of its store or beside any transaction. Every other seed has
/// a peer that pulls the points beside all that, over a connection that is cut, and loses its own power. Whatever the
/// seed, all that was promised is there afterwards, at both, and everything works.
/// </summary>
internal sealed class CrashSimulationProof : IProof
{
    private readonly Coverage _coverage = new();

    public string Name => "crash-simulation";

    public IReadOnlyList<(string Name, string What)> Sabotages => Defect.All;

    public (int Long, int Short) TrialsMax => (10_000, 10_000);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(20);

    public string Figures =>
        $"{_coverage["seeds"]} seeds, {_coverage.Sum("operations:")} operations, {_coverage["transactions"]} transactions, {_coverage.Sum("crashes:")} crashes";

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        if (options.Sabotage is null)
        {
            foreach (var (seed, trial, what) in Regressions.All)
            {
                RunRegression(options with { Seed = seed }, trial, what);
            }
        }
        if (options.Trials == 1)
        {
            // In this process, for a debugger.
            foreach (var trial in trials)
            {
                Run(options, trial, _coverage);
            }
        }
        else
        {
            await SimulationWorker.RunAllAsync(options, trials, _coverage, cancellationToken);
        }
        Console.WriteLine("Stage: operations, crashes");
        foreach (var (stage, count) in _coverage.Under("operations:"))
        {
            Console.WriteLine($"  {stage,-15} {count,10} {_coverage[$"crashes:{stage}"],8}");
        }
        Console.WriteLine("Deed: begun, done, failed");
        foreach (var (deed, count) in _coverage.Under("begun:"))
        {
            Console.WriteLine($"  {deed,-15} {count,10} {_coverage[$"done:{deed}"],8} {_coverage[$"failed:{deed}"],8}");
        }
        Console.WriteLine("Collected: amount, seeds with it beside other deeds, seeds with it in the end");
        foreach (var (what, count) in _coverage.Under("freed:"))
        {
            Console.WriteLine($"  {what,-17} {count,8} {_coverage[$"seeds-before:{what}"],8} {_coverage[$"seeds-end:{what}"],8}");
        }
        Console.WriteLine("Damage: amount");
        foreach (var (what, count) in _coverage.Under("rot:"))
        {
            Console.WriteLine($"  {what,-25} {count,8}");
        }
        Console.WriteLine("Replicated: amount");
        foreach (var (what, count) in _coverage.Under("replicated:"))
        {
            Console.WriteLine($"  {what,-25} {count,8}");
        }
        Console.WriteLine($"Expired points: {_coverage["expired"]}");
    }

    /// <summary>One seed, on the calling thread.</summary>
    /// <exception cref="RefutedException">Something that was promised is not so.</exception>
    public static void Run(ProofOptions options, int trial, Coverage coverage, bool mayHavePeer = true)
    {
        try
        {
            SingleThread.Run(async thread =>
            {
                await using var run = new SimulationRun(thread, options, trial, coverage, mayHavePeer);
                await run.RunAsync();
            });
        }
        catch (Exception failure)
        {
            throw new RefutedException(failure is RefutedException ? failure.Message : failure.ToString()) { Trial = trial };
        }
        coverage.Count("seeds");
    }

    private static void RunRegression(ProofOptions options, int trial, string what)
    {
        try
        {
            // They failed before there were peers.
            Run(options, trial, new Coverage(), mayHavePeer: false);
        }
        catch (RefutedException failure)
        {
            throw new RefutedException($"Again: --seed {options.Seed} --start-trial {trial} ({what}): {failure.Message}") { Trial = trial };
        }
    }
}

using System.Diagnostics;
using System.Runtime.InteropServices;

namespace VirtBackup.Testing.Proofs;

/// <summary>The frame of every proof: options, trials, verdict.</summary>
public static class ProofProgram
{
    private const int Proven = 0;
    private const int NotProven = 1;
    private const int Misused = 2;
    private const int ProblemCharsMax = 300;

    /// <summary>Runs a proof; the last line is <c>NAME: PASS …</c> or <c>NAME: FAIL …</c>.</summary>
    /// <returns>The exit code: 0 proven, 1 not proven, 2 options not understood.</returns>
    public static async Task<int> RunAsync(IProof proof, string[] arguments)
    {
        var clock = Stopwatch.StartNew();
        ProofOptions options;
        try
        {
            options = ProofOptions.Parse(arguments);
        }
        catch (Exception wrong) when (wrong is FormatException or OverflowException)
        {
            Console.Error.WriteLine($"{proof.Name}: {wrong.Message} Usage: {proof.Name} {ProofOptions.Usage}");
            return Misused;
        }
        if (options.Sabotage == "list")
        {
            foreach (var (name, what) in proof.Sabotages) Console.WriteLine($"{name,-20} {what}");
            return Proven;
        }
        if (options.Sabotage is { } asked && proof.Sabotages.All(sabotage => sabotage.Name != asked))
        {
            Console.Error.WriteLine($"{proof.Name}: there is no sabotage '{asked}'; see --sabotage list");
            return Misused;
        }
        // An interrupted run takes what it started and what it wrote with it.
        using var interrupted = new CancellationTokenSource();
        void Interrupt(PosixSignalContext signal)
        {
            signal.Cancel = true;
            interrupted.Cancel();
        }
        using var onInterrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Interrupt);
        using var onTermination = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Interrupt);
        Console.WriteLine($"{proof.Name}: --seed {options.Seed} --start-trial {options.StartTrial}{proof.OwnOptions}");
        var begun = 0;
        bool IsLate() => options.IsLate(clock.Elapsed, proof.ShortLimit);
        IEnumerable<int> Trials()
        {
            var max = options.Trials ?? (options.Short ? proof.TrialsMax.Short : proof.TrialsMax.Long);
            while (begun < max && (begun == 0 || !IsLate())) yield return options.StartTrial + begun++;
        }
        try
        {
            await proof.RunAsync(options, Trials(), IsLate, interrupted.Token);
            interrupted.Token.ThrowIfCancellationRequested();
            if (begun == 0) throw new RefutedException("no trial was run");
            Console.WriteLine($"{proof.Name}: PASS seed={options.Seed} trials={begun} seconds={clock.Elapsed.TotalSeconds:0} {proof.Figures}");
            return Proven;
        }
#pragma warning disable CA1031 // Whatever went wrong, the last line is the verdict.
        catch (Exception failure)
#pragma warning restore CA1031
        {
            var trial = (failure as RefutedException)?.Trial ?? options.StartTrial + Math.Max(0, begun - 1);
            Console.WriteLine(failure is RefutedException ? failure.Message : failure.ToString());
            Console.WriteLine($"Again: tests/proofs/{proof.Name}.sh --seed {options.Seed} --start-trial {trial} --trials 1"
                + $"{proof.OwnOptions}{(options.Short ? " --short" : "")}{(options.Sabotage is null ? "" : $" --sabotage {options.Sabotage}")}");
            var problem = failure.Message.ReplaceLineEndings(" ");
            Console.WriteLine($"{proof.Name}: FAIL seed={options.Seed} trial={trial} seconds={clock.Elapsed.TotalSeconds:0} {problem[..Math.Min(problem.Length, ProblemCharsMax)]}");
            return NotProven;
        }
    }
}

using System.Diagnostics;
using System.Globalization;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>
/// Runs seeds in processes of their own, one for each processor: a simulation holds its process's thread pool. A worker
/// reads numbers of trials, one a line, and answers each with what was covered or what is wrong.
/// </summary>
internal static class SimulationWorker
{
    public const string Option = "--worker";
    private const string Sound = "sound";
    private const string Wrong = "wrong";

    /// <summary>Runs all trials; ends with the first that fails.</summary>
    public static async Task RunAllAsync(ProofOptions options, IEnumerable<int> trials, Coverage coverage, CancellationToken cancellationToken)
    {
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        using var left = trials.GetEnumerator();
        var workers = Enumerable.Range(0, Environment.ProcessorCount).Select(_ => FeedAsync(options, left, coverage, scope.Token)).ToList();
        try
        {
            while (workers.Count > 0)
            {
                var first = await Task.WhenAny(workers);
                workers.Remove(first);
                await first;
            }
        }
        finally
        {
            await scope.CancelAsync();
            await Task.WhenAll(workers).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>The worker's side.</summary>
    public static int Serve(string[] arguments)
    {
        var options = ProofOptions.Parse(arguments);
        while (Console.ReadLine() is { } line)
        {
            var coverage = new Coverage();
            try
            {
                CrashSimulationProof.Run(options, int.Parse(line, CultureInfo.InvariantCulture), coverage);
                Console.WriteLine($"{Sound} {coverage}");
            }
            catch (RefutedException failure)
            {
                Console.WriteLine($"{Wrong} {failure.Message.ReplaceLineEndings("\t")}");
            }
        }
        return 0;
    }

    private static async Task FeedAsync(ProofOptions options, IEnumerator<int> trials, Coverage coverage, CancellationToken cancellationToken)
    {
        List<string> arguments = ["crash-simulation", Option, "--seed", options.Seed.ToString(CultureInfo.InvariantCulture)];
        if (options.Sabotage is { } sabotage)
        {
            arguments.AddRange(["--sabotage", sabotage]);
        }
        var start = new ProcessStartInfo(Environment.ProcessPath!, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true };
        // Seeds differ so much that code stays cold for long: optimising all of it at once takes a third less processor time.
        start.Environment["DOTNET_TieredCompilation"] = "0";
        using var worker = Process.Start(start)!;
        try
        {
            while (Next(trials) is { } trial)
            {
                await worker.StandardInput.WriteLineAsync(trial.ToString(CultureInfo.InvariantCulture).AsMemory(), cancellationToken);
                await worker.StandardInput.FlushAsync(cancellationToken);
                var answer = await worker.StandardOutput.ReadLineAsync(cancellationToken) ?? $"{Wrong} The process that ran it ended.";
                if (!answer.StartsWith(Sound, StringComparison.Ordinal))
                {
                    throw new RefutedException(answer[(Wrong.Length + 1)..].Replace("\t", Environment.NewLine, StringComparison.Ordinal)) { Trial = trial };
                }
                lock (coverage)
                {
                    coverage.Add(Coverage.Parse(answer[Sound.Length..]));
                }
            }
        }
        finally
        {
            worker.Kill();
            await worker.WaitForExitAsync(CancellationToken.None);
        }
    }

    private static int? Next(IEnumerator<int> trials)
    {
        lock (trials)
        {
            return trials.MoveNext() ? trials.Current : null;
        }
    }
}

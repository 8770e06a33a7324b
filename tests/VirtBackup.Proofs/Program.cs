using System.Diagnostics;
using VirtBackup.Proofs;
using VirtBackup.Proofs.CrashPoints;
using VirtBackup.Proofs.FlipBytes;

IProof[] proofs = [new CrashPointsProof(), new FlipBytesProof()];
var proof = args.Length > 0 ? proofs.FirstOrDefault(candidate => candidate.Name == args[0]) : null;
if (proof is null)
{
    Console.Error.WriteLine($"{ProofOptions.Usage}; proofs: {string.Join(", ", proofs.Select(candidate => candidate.Name))}");
    return 2;
}
ProofOptions options;
try
{
    options = ProofOptions.Parse(args.AsSpan(1));
    if (options.Sabotage == "list")
    {
        foreach (var name in proof.Sabotages)
        {
            Console.WriteLine(name);
        }
        return 0;
    }
    if (options.Sabotage is { } sabotage && !proof.Sabotages.Contains(sabotage))
    {
        throw new FormatException($"There is no sabotage '{sabotage}'.");
    }
}
catch (Exception wrong) when (wrong is FormatException or OverflowException)
{
    Console.Error.WriteLine($"{wrong.Message} {ProofOptions.Usage}");
    return 2;
}
Console.WriteLine($"{proof.Name}: --seed {options.Seed} --start-trial {options.FirstTrial}");
var started = Stopwatch.GetTimestamp();
var trials = 0;
var trial = options.FirstTrial;
try
{
    // A short run ends by its clock, so that it is short on a busy machine too; what a trial does depends on its number alone.
    var limit = TimeSpan.FromSeconds(options.Short ? 35 : 35 * 60);
    for (; trials < (options.Trials ?? int.MaxValue) && (trials == 0 || options.Trials is not null || Stopwatch.GetElapsedTime(started) < limit); trial++, trials++)
    {
        if (trials == proof.DefaultTrials && options.Trials is null)
        {
            break;
        }
        proof.Run(options, trial, options.Trials is null ? () => Stopwatch.GetElapsedTime(started) >= limit : static () => false);
    }
    Console.WriteLine($"{proof.Name}: PASS {trials} trials, {proof.Figures}, {Stopwatch.GetElapsedTime(started).TotalSeconds:F0} s, seed {options.Seed}");
    return 0;
}
catch (Exception failure)
{
    Console.WriteLine(failure is ViolationException ? failure.Message : failure.ToString());
    Console.WriteLine($"Again: tests/proofs/{proof.Name}.sh --seed {options.Seed} --start-trial {trial} --trials 1{(options.Short ? " --short" : "")}{(options.Sabotage is null ? "" : $" --sabotage {options.Sabotage}")}");
    var what = failure.Message.ReplaceLineEndings(" ");
    Console.WriteLine($"{proof.Name}: FAIL in trial {trial} of seed {options.Seed} after {proof.Figures}: {what[..Math.Min(what.Length, 300)]}");
    return 1;
}

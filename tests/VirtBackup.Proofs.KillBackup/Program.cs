using System.Diagnostics;
using VirtBackup.Proofs.KillBackup;

var clock = Stopwatch.StartNew();
Options options;
try
{
    options = Options.Parse(args);
}
catch (Exception wrong) when (wrong is FormatException or OverflowException)
{
    Console.Error.WriteLine($"{wrong.Message} {Options.Usage}");
    return 2;
}
if (options.Sabotage == "list")
{
    foreach (var (name, what) in Sabotages.All) Console.WriteLine($"{name,-16} {what}");
    return 0;
}
if (options.Sabotage is { } asked && Sabotages.All.All(sabotage => sabotage.Name != asked))
{
    Console.Error.WriteLine($"kill-backup: there is no sabotage '{asked}'; see --sabotage list");
    return 2;
}
Console.WriteLine($"kill-backup: --seed {options.Seed} --start-trial {options.StartTrial}");
try
{
    var figures = await KillProof.RunAsync(options, clock);
    Console.WriteLine($"kill-backup: PASS seed={options.Seed} {figures} seconds={clock.Elapsed.TotalSeconds:0}");
    return 0;
}
#pragma warning disable CA1031 // Whatever went wrong, the last line is the verdict.
catch (Exception failure)
#pragma warning restore CA1031
{
    Console.WriteLine(failure is Refuted ? failure.Message : failure.ToString());
    Console.WriteLine($"Again: tests/proofs/kill-backup.sh --seed {options.Seed} --start-trial {KillProof.Trial} --trials 1{(options.Sabotage is null ? "" : $" --sabotage {options.Sabotage}")}");
    Console.WriteLine($"kill-backup: FAIL seed={options.Seed} trial={KillProof.Trial} seconds={clock.Elapsed.TotalSeconds:0} {failure.Message.Split('\n')[0]}");
    return 1;
}

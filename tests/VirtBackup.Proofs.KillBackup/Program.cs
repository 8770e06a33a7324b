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
    Console.Error.WriteLine($"kill-backup: {wrong.Message}");
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
Console.WriteLine($"seed {options.Seed}");
try
{
    var figures = await KillProof.RunAsync(options);
    Console.WriteLine($"kill-backup: PASS seed={options.Seed} {figures} seconds={clock.Elapsed.TotalSeconds:0}");
    return 0;
}
#pragma warning disable CA1031 // Whatever went wrong, the last line is the verdict.
catch (Exception failure)
#pragma warning restore CA1031
{
    Console.WriteLine(failure.Message);
    Console.WriteLine($"kill-backup: FAIL seed={options.Seed} seconds={clock.Elapsed.TotalSeconds:0} {failure.Message.Split('\n')[0]}");
    return 1;
}

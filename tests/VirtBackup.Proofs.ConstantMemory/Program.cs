using System.Diagnostics;
using System.Runtime.InteropServices;
using VirtBackup.Proofs.ConstantMemory;

var clock = Stopwatch.StartNew();
Options options;
try
{
    options = Options.Parse(args);
}
catch (Exception wrong) when (wrong is FormatException or OverflowException)
{
    Console.Error.WriteLine($"constant-memory: {wrong.Message}");
    return 2;
}
if (options.Sabotage == "list")
{
    foreach (var (name, what) in Sabotages.All) Console.WriteLine($"{name,-20} {what}");
    return 0;
}
if (options.Sabotage is { } asked && Sabotages.All.All(sabotage => sabotage.Name != asked))
{
    Console.Error.WriteLine($"constant-memory: there is no sabotage '{asked}'; see --sabotage list");
    return 2;
}
// An interrupted run takes its services and its many gigabytes with it.
using var interrupted = new CancellationTokenSource();
void Interrupt(PosixSignalContext signal)
{
    signal.Cancel = true;
    interrupted.Cancel();
}
using var onInterrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Interrupt);
using var onTermination = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Interrupt);
Console.WriteLine($"seed {options.Seed}");
try
{
    var figures = await new MemoryProof(options, interrupted.Token).RunAsync();
    Console.WriteLine($"constant-memory: PASS seed={options.Seed} trials={options.Trials} seconds={clock.Elapsed.TotalSeconds:0} {figures}");
    return 0;
}
#pragma warning disable CA1031 // Whatever went wrong, the last line is the verdict.
catch (Exception failure)
#pragma warning restore CA1031
{
    Console.WriteLine(failure is Refuted ? failure.Message : failure.ToString());
    Console.WriteLine($"constant-memory: FAIL seed={options.Seed} seconds={clock.Elapsed.TotalSeconds:0} {failure.Message.Split('\n')[0]}");
    return 1;
}

using VirtBackup.Cli;
using VirtBackup.Cli.Output;
using VirtBackup.Core;

using var interrupts = Interrupts.Register();
Func<string, string?> variables = Environment.GetEnvironmentVariable;
return await CommandRun.RunAsync(new CliContext(Terminal.OfProcess(variables), interrupts, TimeProvider.System, SystemEntropy.Instance, variables), args);

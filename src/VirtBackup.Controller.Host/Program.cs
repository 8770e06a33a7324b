using VirtBackup.Controller.Host;
using VirtBackup.Core;

if (args is ["--help"] or ["-h"])
{
    Console.WriteLine("Usage: virtbackupd [--data DIR]\n\nRuns the VirtBackup controller whose folder is DIR (default /var/lib/virtbackup).");
    return ExitCode.Success;
}
if (args is ["--version"])
{
    Console.WriteLine(ControllerProgram.Version);
    return ExitCode.Success;
}
if (!Arguments.TryParse(args, out var folder))
{
    Console.Error.WriteLine("virtbackupd: usage: virtbackupd [--data DIR]");
    return ExitCode.Usage;
}
NativeHeap.UseOneArena();
try
{
    await ControllerProgram.RunAsync(folder);
    return ExitCode.Success;
}
catch (FaultException fault)
{
    Console.Error.WriteLine($"virtbackupd: {fault.Message}");
    return fault.Reason == FaultReason.RepositoryBusy ? ExitCode.Busy : ExitCode.Failure;
}
catch (IOException failure)
{
    // An address that is in use, most of all.
    Console.Error.WriteLine($"virtbackupd: {failure.Message}");
    return ExitCode.Failure;
}

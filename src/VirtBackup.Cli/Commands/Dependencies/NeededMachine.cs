using System.CommandLine;

namespace VirtBackup.Cli.Commands.Dependencies;

/// <summary>The other machine of a dependency.</summary>
internal static class NeededMachine
{
    public static Option<string> Option() => new("--needs") { Description = "The virtual machine that is needed: name, id, or an unambiguous start of the id", HelpName = "VM", Required = true };
}

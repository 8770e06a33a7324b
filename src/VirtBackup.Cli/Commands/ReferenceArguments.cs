using System.CommandLine;

namespace VirtBackup.Cli.Commands;

/// <summary>Arguments that several verbs take.</summary>
internal static class ReferenceArguments
{
    public static Argument<string> Machine() => new("vm") { Description = "Name of the virtual machine, its id, or an unambiguous start of the id" };

    public static Argument<string> Point() =>
        new("point") { Description = "Recovery point: its id, an unambiguous start of it (6 digits or more), VM@latest or VM@SEQUENCE" };

    public static Argument<string> RuleSet() => new("rule-set") { Description = "Name of the rule set" };

    public static Argument<string[]> Machines(ArgumentArity arity) =>
        new("vm") { Description = "Names of virtual machines, their ids, or unambiguous starts of the ids", Arity = arity };

    public static Argument<string> Group() => new("group") { Description = "Name of the group" };

    public static Argument<string> GroupPoint() =>
        new("group-point") { Description = "A group's recovery point: its id, an unambiguous start of it (6 digits or more), or GROUP@latest" };

    public static Argument<string> Peer() => new("peer") { Description = "Name that the other controller has here" };

    public static Argument<string> Job() => new("job") { Description = "Id of the job, or an unambiguous start of it" };
}

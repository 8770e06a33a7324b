using System.CommandLine;

namespace VirtBackup.Cli.Commands.Groups;

/// <summary>The option that says how far apart the cuts of a consistent group may lie.</summary>
internal static class SkewBound
{
    private const int MillisecondsMax = 60_000;

    public static Option<uint> Option(string otherwise) => new("--skew-bound")
    {
        Description = $"Milliseconds that the cuts of the machines may lie apart; above it a point is not called consistent (1 to 60000) [default: {otherwise}]",
        HelpName = "MS", CustomParser = static result => (uint)BoundedNumber.Parse(result, "--skew-bound", MillisecondsMax, "milliseconds"),
    };
}

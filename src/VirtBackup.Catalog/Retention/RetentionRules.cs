using System.Globalization;
using VirtBackup.Core;

namespace VirtBackup.Catalog.Retention;

/// <summary>
/// How many of a machine's recovery points are kept. Each rule by itself keeps the newest point of each of the newest
/// hours, days, ISO weeks, months or years (all UTC) that have one; a point stays as long as one rule keeps it. Without any
/// rule everything is kept.
/// </summary>
public sealed record RetentionRules
{
    public const int CountMax = 100_000;

    /// <summary>Hundred years.</summary>
    public const int WithinHoursMax = 876_600;

    public static RetentionRules KeepEverything { get; } = new();

    /// <summary>This many of the newest points; 0, here and below: the rule does not exist.</summary>
    public int Last { get; init; }

    public int Hourly { get; init; }

    public int Daily { get; init; }

    public int Weekly { get; init; }

    public int Monthly { get; init; }

    public int Yearly { get; init; }

    /// <summary>Every point that is less than so many hours older than the machine's newest one.</summary>
    public int WithinHours { get; init; }

    public bool IsEmpty => (Last | Hourly | Daily | Weekly | Monthly | Yearly | WithinHours) == 0;

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: a number beyond its bounds.</exception>
    public void Validate()
    {
        foreach (var (name, count) in Counts())
        {
            Require(name, count, CountMax);
        }
        Require("within", WithinHours, WithinHoursMax);
    }

    /// <summary>Such as "last 3, daily 7, within 48 h"; "everything".</summary>
    public override string ToString()
    {
        var parts = Counts().Where(static rule => rule.Count > 0).Select(static rule => string.Create(CultureInfo.InvariantCulture, $"{rule.Name} {rule.Count}")).ToList();
        if (WithinHours > 0)
        {
            parts.Add(string.Create(CultureInfo.InvariantCulture, $"within {WithinHours} h"));
        }
        return parts.Count == 0 ? "everything" : string.Join(", ", parts);
    }

    private IEnumerable<(string Name, int Count)> Counts() =>
        [("last", Last), ("hourly", Hourly), ("daily", Daily), ("weekly", Weekly), ("monthly", Monthly), ("yearly", Yearly)];

    private static void Require(string name, int value, int max)
    {
        if (value < 0 || value > max)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The rule '{name}' is {value}; it goes from 0 (no such rule) to {max}.");
        }
    }
}

using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Migration;

/// <summary>How often whom something was to happen to while a machine moves, and how often it did: what strikes behind the end proves nothing.</summary>
internal sealed class Strikes
{
    /// <summary>Fewer of them say nothing about how many hit.</summary>
    private const int DueMin = 8, DueOfOneMin = 4;

    private readonly Dictionary<string, (int Due, int Struck)> _victims = new(StringComparer.Ordinal);

    private int Due => _victims.Values.Sum(static counts => counts.Due);

    private int Struck => _victims.Values.Sum(static counts => counts.Struck);

    /// <param name="hit">The move was still going on.</param>
    public void Add(string victim, bool hit)
    {
        var (due, struck) = _victims.GetValueOrDefault(victim);
        _victims[victim] = (due + 1, struck + (hit ? 1 : 0));
    }

    /// <exception cref="RefutedException">Most came too late, or all of one kind.</exception>
    public void Require(string moves)
    {
        if (Due >= DueMin && 2 * Struck < Due) throw new RefutedException($"only {Struck} of {Due} strikes came while {moves}: too few to prove anything");
        foreach (var (victim, counts) in _victims)
        {
            if (counts is { Due: >= DueOfOneMin, Struck: 0 }) throw new RefutedException($"{victim} was to be struck {counts.Due} times while {moves}, and never was");
        }
    }

    public override string ToString() => $"{Struck}/{Due}";
}

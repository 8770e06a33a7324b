using VirtBackup.Core;

namespace VirtBackup.Repository.Verification;

/// <summary>Collects damage: bounded in what it lists, exact in what it counts.</summary>
internal sealed class DamageLog
{
    private readonly Dictionary<(string, string), Entry> _entries = [];

    /// <summary>Distinct damages.</summary>
    public long Count { get; private set; }

    public Entry Add(string objectKey, string problem)
    {
        if (_entries.TryGetValue((objectKey, problem), out var known))
        {
            return known;
        }
        Count++;
        var entry = new Entry(objectKey, problem);
        if (_entries.Count < VerificationReport.DamagesMax)
        {
            _entries.Add((objectKey, problem), entry);
        }
        return entry;
    }

    public IReadOnlyList<Damage> ToList() => [.. _entries.Values.Select(entry => entry.ToDamage())];

    internal sealed class Entry(string objectKey, string problem)
    {
        private readonly List<AffectedRange> _affected = [];
        private bool _isCut;

        /// <summary>Notes a loss; runs that touch the one before are joined.</summary>
        public void Affect(AffectedRange loss)
        {
            if (_affected is [.., var last] && (last with { Range = loss.Range }) == loss && last.Range.End >= loss.Range.Offset && last.Range.Offset <= loss.Range.Offset)
            {
                _affected[^1] = last with { Range = new ByteRange(last.Range.Offset, Math.Max(last.Range.End, loss.Range.End) - last.Range.Offset) };
            }
            else if (_affected.Count < Damage.AffectedMax)
            {
                _affected.Add(loss);
            }
            else
            {
                _isCut = true;
            }
        }

        public Damage ToDamage() => new(objectKey, problem, _affected, _isCut);
    }
}

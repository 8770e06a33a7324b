namespace VirtBackup.Proofs.KillController;

/// <summary>Counts what the kills hit.</summary>
internal sealed class Tally
{
    private readonly SortedDictionary<string, int> _works = new(StringComparer.Ordinal);
    private readonly SortedDictionary<string, int> _phases = new(StringComparer.Ordinal);
    private int _kills;

    /// <param name="running">Kinds of the jobs that ran, and their phases as they were told last.</param>
    public void Count(IReadOnlyCollection<(string Kind, string? Phase)> running)
    {
        _kills++;
        var works = running.Count == 0 ? "nothing" : string.Join('+', running.Select(job => job.Kind).Distinct().Order(StringComparer.Ordinal));
        _works[works] = _works.GetValueOrDefault(works) + 1;
        foreach (var (kind, phase) in running)
        {
            var name = $"{kind} {phase ?? "beginning"}";
            _phases[name] = _phases.GetValueOrDefault(name) + 1;
        }
    }

    public override string ToString() =>
        $"{_kills} kills during {string.Join(", ", _works.OrderByDescending(work => work.Value).Select(work => $"{work.Key} {work.Value}"))}; phases: {string.Join(", ", _phases.Select(phase => $"{phase.Key} {phase.Value}"))}";
}

namespace VirtBackup.Repository.Rebuilding;

/// <summary>How bringing the index up to the store goes on, and what is damaged in the store.</summary>
internal sealed class RebuildNews(IProgress<RebuildProgress>? progress)
{
    private readonly List<ObjectProblem> _problems = [];

    public IReadOnlyList<ObjectProblem> Problems => _problems;

    public long ProblemCount { get; private set; }

    public RebuildProgress Done { get; private set; }

    public void Report(string key, string problem)
    {
        ProblemCount++;
        if (_problems.Count < OpenReport.ProblemsMax)
        {
            _problems.Add(new ObjectProblem(key, problem));
        }
    }

    public void AddPack(int records) => Done = Done with { Packs = Done.Packs + 1, Records = Done.Records + records };

    public void AddReferences(long references) => Done = Done with { References = Done.References + references };

    public void AddChecked(long references) => Done = Done with { ReferencesChecked = Done.ReferencesChecked + references };

    public void AddRows(long rows) => Done = Done with { Rows = Done.Rows + rows };

    public void AddPoints(int points) => Done = Done with { Points = Done.Points + points };

    public void Tell() => progress?.Report(Done);

    /// <summary>Everything is done anew.</summary>
    public void Clear()
    {
        _problems.Clear();
        (ProblemCount, Done) = (0, default);
    }
}

namespace VirtBackup.Repository.Rebuilding;

/// <summary>What bringing the index up to the store found.</summary>
/// <param name="Rebuilt">The index was made anew.</param>
/// <param name="PacksAdded">Packs that the index did not know.</param>
/// <param name="PointsAdded">Recovery points that the index did not know.</param>
/// <param name="PointsRemoved">Recovery points whose manifest is gone.</param>
/// <param name="Problems">Objects that are damaged and were left out; at most <see cref="ProblemsMax"/>.</param>
/// <param name="ProblemCount">All of them.</param>
public sealed record OpenReport(
    bool Rebuilt, long PacksAdded, long PointsAdded, long PointsRemoved, IReadOnlyList<ObjectProblem> Problems, long ProblemCount)
{
    /// <summary>Problems that are listed one by one.</summary>
    public const int ProblemsMax = 10_000;

    internal static OpenReport Nothing { get; } = new(false, 0, 0, 0, [], 0);
}

/// <summary>A damaged object.</summary>
/// <param name="ObjectKey">Its key in the store.</param>
/// <param name="Problem">What is wrong, for people.</param>
public readonly record struct ObjectProblem(string ObjectKey, string Problem);

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>A point that will be deleted, in the middle of its machine's history.</summary>
internal readonly record struct Victim(int Machine, int Point)
{
    /// <summary>The first warms up, the others are measured.</summary>
    public const int WarmUps = 1;
    public const int Measured = 5;

    /// <summary>One point each of several machines; never the machine that stored what all share.</summary>
    public static IReadOnlyList<Victim> Choose(HistoryShape shape) =>
        [.. Enumerable.Range(1, WarmUps + Measured).Select(machine => new Victim(machine, shape.PointsPerMachine / 2))];
}

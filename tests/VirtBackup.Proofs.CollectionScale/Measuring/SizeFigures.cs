namespace VirtBackup.Proofs.CollectionScale.Measuring;

/// <summary>What the deletion of one point cost.</summary>
/// <param name="Rows">As the collector reports; the index's answers counted from outside are <paramref name="Delivered"/>.</param>
/// <param name="StoreBytes">Bytes that the store was asked for.</param>
/// <param name="FileBytes">All bytes that the process read of files, the index's pages among them.</param>
internal sealed record DeletionCost(long Rows, long Nodes, long Bytes, long Delivered, long StoreBytes, long FileBytes, double WallSeconds, double ProcessorSeconds);

/// <summary>What was measured at one size.</summary>
/// <param name="PeakKiB">While points were deleted.</param>
/// <param name="OpeningPeakKiB">Before that: while the repository was opened and a first point deleted.</param>
/// <param name="Scans">Statements of the collector that look at everything.</param>
internal sealed record SizeFigures(
    IReadOnlyList<DeletionCost> Deletions, long PeakKiB, long OpeningPeakKiB, double OpeningSeconds, IReadOnlyList<string> Scans)
{
    public double MeanOf(Func<DeletionCost, double> figure) => Deletions.Average(figure);

    public double MedianOf(Func<DeletionCost, double> figure) => Deletions.Select(figure).Order().ElementAt(Deletions.Count / 2);
}

/// <summary>What a recount of all references took, by a process of its own.</summary>
internal sealed record AuditFigures(long References, long Rows, double Seconds, long PeakKiB);

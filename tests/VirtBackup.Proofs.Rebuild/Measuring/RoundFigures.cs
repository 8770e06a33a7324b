namespace VirtBackup.Proofs.Rebuild.Measuring;

/// <summary>One rebuild, and the plain insert of its rows behind it.</summary>
/// <param name="Rows">Of objects and complete nodes.</param>
/// <param name="RowSeconds">All of the rebuild but what it took to read map nodes and to check what they name.</param>
/// <param name="References">That map nodes hold, to nodes and to chunks.</param>
/// <param name="ReferenceSeconds">Reading map nodes, and checking what they name.</param>
/// <param name="PlainSeconds">The same rows, in the order of their keys, into the same tables of an empty database, from memory.</param>
/// <param name="PeakKiB">Of the rebuild.</param>
/// <param name="Difference">Where the dump differs from that of the index that grew; null: nowhere.</param>
/// <param name="Phases">Where the rebuild's time went.</param>
/// <param name="ProcessorRatio">As <see cref="Ratio"/>, in processor time: what other work on the machine does not spoil.</param>
internal sealed record RoundFigures(
    long Rows, double RowSeconds, long References, double ReferenceSeconds, double PlainSeconds, long PeakKiB, string? Difference, string Phases,
    double ProcessorRatio, double ReferencesPerProcessorSecond)
{
    public double Ratio => PlainSeconds / RowSeconds;

    /// <summary>With all that a rebuild does beside rows.</summary>
    public double WholeRatio => PlainSeconds / (RowSeconds + ReferenceSeconds);

    public double ReferencesPerSecond => References / ReferenceSeconds;
}

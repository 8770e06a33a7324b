using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

internal sealed record FoundDamageView(
    string Object, string Problem, DateTimeOffset? FoundTime, DateTimeOffset? HealedTime, IReadOnlyList<DamagedRangeView> Ranges, bool RangesCut)
{
    public static FoundDamageView Of(FoundDamage damage) => new(
        damage.Object, damage.Problem, WireNames.Of(damage.FoundTime), WireNames.Of(damage.HealedTime), [.. damage.Ranges.Select(DamagedRangeView.Of)], damage.RangesCut);
}

/// <summary>How much of the repository is proven.</summary>
internal sealed record ProofView(
    ulong Bytes, ulong ProvenBytes, uint Days, DateTimeOffset? OldestTime, bool Unproven, ulong DamagesOpen, ulong PointsDamaged, DateTimeOffset? CycleTime, bool Off)
{
    public static ProofView? Of(RepositoryProof? proof) => proof is null ? null : new(
        proof.Bytes, proof.ProvenBytes, proof.Days, WireNames.Of(proof.OldestTime), proof.Unproven, proof.DamagesOpen, proof.PointsDamaged, WireNames.Of(proof.CycleTime), proof.Off);
}

internal sealed record ScrubFindingView(
    string Object, string Problem, ulong RecordsLost, ulong RecordsDoubtful, ulong RecordsSaved, ulong RecordsCovered);

/// <summary>What a run of the scrub did.</summary>
internal sealed record ScrubView(
    ulong Packs, ulong Bytes, ulong DamagesTotal, ulong RecordsHealed, ulong RecordsMissing, IReadOnlyList<ScrubFindingView> Findings, IReadOnlyList<ProblemView> Problems)
{
    public static ScrubView Of(ScrubResult result) => new(
        result.Packs, result.Bytes, result.DamagesTotal, result.RecordsHealed, result.RecordsMissing,
        [.. result.Findings.Select(static found => new ScrubFindingView(
            found.Object, found.Problem, found.RecordsLost, found.RecordsDoubtful, found.RecordsSaved, found.RecordsCovered))],
        [.. result.Problems.Select(static problem => new ProblemView(problem.Object, problem.Problem))]);
}

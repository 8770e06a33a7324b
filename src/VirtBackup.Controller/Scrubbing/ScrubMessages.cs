using VirtBackup.Catalog;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository.Scrubbing;

namespace VirtBackup.Controller.Scrubbing;

/// <summary>From what the scrub found to what operators' tools are told.</summary>
internal static class ScrubMessages
{
    private const int ListedMax = 1000;

    public static ScrubResult ToResult(ScrubReport report, IReadOnlyList<Repository.Verification.Damage> objects, HealReport healed)
    {
        var result = new ScrubResult
        {
            Packs = (ulong)report.Packs, Bytes = (ulong)report.Bytes, DamagesTotal = (ulong)(report.DamageCount + objects.Count),
            RecordsHealed = (ulong)healed.HealedCount, RecordsMissing = (ulong)healed.Missing,
        };
        result.Findings.Add(report.Findings.Select(static finding => new Protocol.Admin.V1.ScrubFinding
        {
            Object = finding.ObjectKey, Problem = finding.Problem, RecordsLost = (ulong)finding.RecordsLost, RecordsDoubtful = (ulong)finding.RecordsDoubtful,
            RecordsSaved = (ulong)finding.RecordsSaved, RecordsCovered = (ulong)finding.RecordsCovered,
        }));
        result.Problems.Add(report.Problems.Select(static problem => (problem.ObjectKey, problem.Problem)).Concat(objects.Select(static damage => (damage.ObjectKey, damage.Problem)))
            .Take(ListedMax).Select(static problem => new ScrubProblem { Object = problem.ObjectKey, Problem = problem.Problem }));
        return result;
    }

    public static RepositoryProof ToMessage(ProofSummary proof, ScrubCycleRow cycle, int days) => new()
    {
        Bytes = (ulong)proof.Bytes,
        ProvenBytes = (ulong)proof.BytesProven,
        Days = (uint)days,
        OldestTime = proof.OldestMs is > 0 and var oldest ? WireText.ToTimestamp(oldest) : null,
        Unproven = proof.OldestMs == 0,
        CycleTime = cycle.FinishedMs > 0 ? WireText.ToTimestamp(cycle.FinishedMs) : null,
    };

    /// <param name="row">The damage.</param>
    /// <param name="points">The points that its ranges name, as far as the catalog knows them.</param>
    public static FoundDamage ToMessage(DamageRow row, IReadOnlyDictionary<Id16, PointRow?> points)
    {
        var message = new FoundDamage
        {
            Object = row.ObjectKey, Problem = row.Problem, FoundTime = WireText.ToTimestamp(row.FoundMs), RangesCut = row.RangesCut,
            HealedTime = row.HealedMs > 0 ? WireText.ToTimestamp(row.HealedMs) : null,
        };
        message.Ranges.Add(row.Ranges.Select(range => ToMessage(range, points.GetValueOrDefault(range.PointId))));
        return message;
    }

    public static DamagedRange ToMessage(DamagedRangeRow range, PointRow? point) => new()
    {
        PointId = range.PointId.ToString(),
        VmName = point?.VmName ?? range.VmId.ToString(),
        StreamName = range.StreamId.IsEmpty ? "" : point?.Streams.FirstOrDefault(stream => stream.StreamId == range.StreamId.ToString())?.Name ?? range.StreamId.ToString(),
        Offset = (ulong)range.Offset,
        Length = (ulong)range.Length,
        Doubtful = range.IsDoubtful,
    };
}

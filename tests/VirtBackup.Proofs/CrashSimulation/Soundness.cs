using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>What must be true of store, index and catalog whenever nothing is under way.</summary>
internal sealed class Soundness(Site site, Func<SimulatedStore> store, IReadOnlyList<Host> hosts, Ledger ledger, Harming harming, ProvenObjects proven)
{
    public async Task<Census> TakeCensusAsync()
    {
        await harming.ForgetReplacedAsync();
        return await Census.TakeAsync(store(), harming.Damaged);
    }

    /// <summary>Proves that all that was promised is there, and that the controller knows it.</summary>
    public async Task<Census> RequireAsync(Power power)
    {
        var census = await TakeCensusAsync();
        ledger.Require(census, site.Escrow, hosts, proven, power);
        await RequireIndexAsync(census, hasJustStarted: false);
        return census;
    }

    /// <summary>Proves that index and catalog know what the store holds, and that every reference is counted.</summary>
    public async Task RequireIndexAsync(Census census, bool hasJustStarted)
    {
        var report = site.Repository.OpenReport;
        if (report.ProblemCount > 0 && harming.Damaged.Count == 0)
        {
            throw new RefutedException($"After a crash the repository is damaged: {report.Problems[0]}");
        }
        var known = (await site.Repository.ListPointsAsync(null, CancellationToken.None)).Select(point => point.Point).Order();
        if (!census.Points.Keys.Order().SequenceEqual(known))
        {
            throw new RefutedException("The index knows other points than the store holds.");
        }
        var listed = (await site.Role.Catalog.Points.ListIdsAsync(CancellationToken.None)).Select(point => (Point: point.Key, IsForgotten: point.Value));
        if (!hasJustStarted)
        {
            // What was purged since the start is told at the next one.
            listed = listed.Where(row => !row.IsForgotten || census.Forgotten.ContainsKey(row.Point) || !ledger.MayBeGone(row.Point));
        }
        var there = census.Points.Keys.Select(point => (point, false)).Concat(census.Forgotten.Keys.Select(point => (point, true)));
        if (!there.Order().SequenceEqual(listed.Order()))
        {
            throw new RefutedException("The catalog lists other points than the store holds.");
        }
        References.Of(census).RequireCounted(await site.DumpAsync(), exactly: false);
    }
}

using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>A pack that was found damaged, or cannot be read for long.</summary>
internal readonly record struct Suspect(PackRow Pack, bool IsUnreadable);

/// <summary>What came of a suspicion. Neither: the pack is sound, or gone.</summary>
/// <param name="Finding">It was damaged, and is out of use.</param>
/// <param name="Fault">Why it could not be judged; it is as it was.</param>
internal readonly record struct SuspectResult(ScrubFinding? Finding, FaultException? Fault);

/// <summary>
/// Looks once more at suspected packs while nothing else deletes or commits, and takes damaged ones out of use: several
/// together, because finding the nodes above them costs the same for one and for many.
/// </summary>
internal sealed class RepairRound(UpkeepParts parts, IChunkOpener? opener)
{
    /// <returns>One result for each suspect, in their order.</returns>
    /// <exception cref="FaultException">The store, the index or the ownership is gone. What was not repaired is found again.</exception>
    public async ValueTask<IReadOnlyList<SuspectResult>> RunAsync(IReadOnlyList<Suspect> suspects, CancellationToken cancellationToken)
    {
        // It may take a look at every row of the index: before others wait.
        var entries = new List<PackEntry[]>(suspects.Count);
        foreach (var suspect in suspects)
        {
            entries.Add(await PackAutopsy.ListEntriesAsync(parts.Store, parts.Index, suspect.Pack, cancellationToken));
        }
        using var collecting = await parts.Collecting.CloseAsync(cancellationToken);
        using var marking = await parts.Marking.CloseAsync(cancellationToken);
        using var changing = await parts.ChangingPoints.CloseAsync(cancellationToken);
        var results = new SuspectResult[suspects.Count];
        var patients = new List<(int At, Patient Patient)>();
        for (var i = 0; i < suspects.Count; i++)
        {
            try
            {
                if (await ExamineAsync(suspects[i], entries[i], cancellationToken) is { } patient)
                {
                    patients.Add((i, patient));
                }
            }
            catch (FaultException fault) when (StoreHealth.IsDamage(fault) || StoreHealth.IsUnreadable(fault))
            {
                await parts.Store.RequireReadableAsync(cancellationToken);
                results[i] = new SuspectResult(null, fault);
            }
        }
        if (patients.Count == 0)
        {
            return results;
        }
        await parts.Owner.RequireAsync(cancellationToken);
        var repair = new PackRepair(parts.Store, parts.Index, parts.Deleting, parts.Owner.Generation, parts.Clock, opener);
        var trace = await repair.UnmarkAsync([.. patients.Select(static row => row.Patient)], cancellationToken);
        foreach (var (at, patient) in patients)
        {
            try
            {
                var outcome = await repair.RunAsync(patient, trace, cancellationToken);
                results[at] = new SuspectResult(
                    new ScrubFinding(ObjectKeys.Pack(patient.Pack.Hash), patient.Problem, outcome.Lost, outcome.Doubtful, outcome.Saved, outcome.Covered), null);
            }
            catch (FaultException fault) when (StoreHealth.IsDamage(fault) || StoreHealth.IsUnreadable(fault))
            {
                await parts.Store.RequireReadableAsync(cancellationToken);
                results[at] = new SuspectResult(null, fault);
            }
        }
        await parts.Points.RecheckAsync(cancellationToken);
        return results;
    }

    /// <summary>Null: the pack is sound, or gone.</summary>
    private async ValueTask<Patient?> ExamineAsync(Suspect suspect, PackEntry[] entries, CancellationToken cancellationToken)
    {
        if (await parts.Index.ReadAsync(connection => PackTable.Find(connection, suspect.Pack.Number), cancellationToken) is not { State: PackState.Live } pack
            || await FindProblemAsync(pack, suspect.IsUnreadable, cancellationToken) is not { } problem)
        {
            return null;
        }
        var autopsy = await PackAutopsy.ExamineAsync(parts.Store, parts.Index, pack, entries, suspect.IsUnreadable, cancellationToken);
        return new Patient(pack, problem, autopsy);
    }

    /// <summary>What is wrong with the pack now, for people; null: nothing.</summary>
    private async ValueTask<string?> FindProblemAsync(PackRow pack, bool isUnreadable, CancellationToken cancellationToken)
    {
        var log = new DamageLog();
        var damage = new PackDamage();
        try
        {
            await new PackVerifier(parts.Store, parts.Index, log, damage).VerifyAsync(pack.Number, pack.Hash, pack.Bytes, cancellationToken);
        }
        catch (FaultException fault) when (isUnreadable && StoreHealth.IsUnreadable(fault))
        {
            return $"It cannot be read for a day or longer: {fault.Message}";
        }
        var isSound = log.Count == 0
            || (damage.Packs.Count + damage.Records.Count == 0 && await PackReader.HashAsync(parts.Store, ObjectKeys.Pack(pack.Hash), pack.Bytes, cancellationToken) == pack.Hash);
        return isSound ? null : log.ToList()[0].Problem;
    }
}

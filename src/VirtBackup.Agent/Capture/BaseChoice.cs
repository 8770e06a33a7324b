using VirtBackup.Agent.Flow;
using VirtBackup.Agent.State;
using VirtBackup.Agent.Upload;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Store.V1;

namespace VirtBackup.Agent.Capture;

/// <param name="Tracked">The point whose changes the hypervisor can tell; null: read in full.</param>
/// <param name="Base">Whose map the new point may share; when <paramref name="Tracked"/> is set it is that point.</param>
/// <param name="IsCommitted">The point that is to be made exists already.</param>
internal sealed record SettledBase(Id16? Tracked, BaseRecord? Base, bool IsCommitted);

/// <summary>Cleans up after broken runs and picks the base of the next one. Outcomes are asked for, never guessed.</summary>
internal sealed class BaseChoice(BackupContext context, IHypervisor hypervisor, Id16 machine, RunProgress progress)
{
    /// <param name="point">That is to be made: an earlier attempt, whose answer was lost, may have committed it.</param>
    /// <param name="cancellationToken">Ends the waiting for an absent controller.</param>
    public async Task<SettledBase> ChooseAsync(Id16 point, CancellationToken cancellationToken)
    {
        var (usable, committed, _, remembered) = await AskAsync([point], cancellationToken);
        var settled = await hypervisor.SettleByTokensAsync(machine, committed, remembered, cancellationToken);
        var match = usable.FirstOrDefault(record => record.Point == settled);
        if (settled is not null && match is null)
        {
            progress.Log($"Changes since recovery point {settled} are known, but its map was not kept on this host: all blocks are read.");
        }
        return new SettledBase(match?.Point, match ?? usable.FirstOrDefault(), committed.Contains(point));
    }

    /// <summary>The point whose changes a run now would read, without touching the machine; null: all is read.</summary>
    public async Task<BaseRecord?> FindAsync(CancellationToken cancellationToken)
    {
        var (usable, _, tracked, _) = await AskAsync([], cancellationToken);
        return usable.FirstOrDefault(record => tracked.Contains(record.Point));
    }

    // A point counts as base only if this agent made it, remembers its map, and the controller has it.
    private async Task<(BaseRecord[] Usable, HashSet<Id16> Committed, IReadOnlyList<Id16> Tracked, RememberedPoint[] Remembered)> AskAsync(Id16[] also, CancellationToken cancellationToken)
    {
        var records = await context.Bases.LoadAsync(machine, cancellationToken);
        RememberedPoint[] remembered = [.. records.Select(record => new RememberedPoint(record.Point, record.BaseTokens))];
        var tracked = await hypervisor.ListPointsByTokensAsync(machine, remembered, cancellationToken);
        var committed = new HashSet<Id16>();
        foreach (var part in tracked.Concat(records.Select(record => record.Point)).Concat(also).Distinct().Chunk(256))
        {
            var request = new FindRecoveryPointsRequest { VmId = machine.ToString() };
            request.PointIds.AddRange(part.Select(point => point.ToString()));
            var response = await PatientCall.RunAsync(
                token => context.Store.FindRecoveryPointsAsync(request, token), (context.Tools.Time, context.Tools.Entropy), progress, cancellationToken);
            committed.UnionWith(response.CommittedPointIds.Select(Id16.Parse));
        }
        return ([.. records.Where(record => committed.Contains(record.Point))], committed, tracked, remembered);
    }
}

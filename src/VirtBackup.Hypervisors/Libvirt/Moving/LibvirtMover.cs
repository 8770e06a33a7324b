using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Libvirt.Moving;

/// <summary>Moves the disks of a machine of libvirt, live by block copies, or file by file when it is off.</summary>
internal sealed class LibvirtMover(LibvirtContext context, LibvirtConnection connection, StorageMoveRequest request)
{
    private readonly LibvirtMoveRecovery recovery = new(context, connection, request.Machine);
    private readonly Dictionary<string, (long Bytes, TimeSpan Elapsed)> moved = new(StringComparer.Ordinal);
    private TimeSpan? interruption;
    private IReadOnlyList<string> kept = [];

    public async Task<StorageMoveOutcome> MoveAsync(CancellationToken cancellationToken)
    {
        await recovery.EndAsync(request.Log, cancellationToken);
        var plan = await new LibvirtMovePlanner(context, connection).PlanAsync(request, cancellationToken);
        if (plan.Refused)
        {
            throw new FaultException(FaultReason.FailedPrecondition, "The disks cannot be moved: "
                + FindingMessages.OfObstacles(plan.Findings));
        }
        if (plan.Disks.Count == 0)
        {
            return new StorageMoveOutcome([], null, [], plan.Findings);
        }
        if (plan.Running)
        {
            await context.JobsOf(connection).RequireIdleAsync(request.Machine, cancellationToken);
        }
        var point = Id16.Create(context.Entropy);
        var name = await connection.QueryAsync(libvirt =>
        {
            using var domain = Domains.Find(libvirt, request.Machine);
            return Domains.NameOf(domain);
        }, cancellationToken);
        var journal = MoveJournal.Begin(context.Options.StateFolder!, request.Machine, name, point.ToString()[..8], request.KeepSource,
            [.. plan.Disks.Select(static move => new MovingDisk(move.Disk.Name, move.OldPath, move.NewPath, move.Disk.Format, move.Format, move.Disk.Name, ""))],
            TargetImage.FindNewFolders(plan.Disks.Select(static move => move.NewPath)));
        try
        {
            request.Progress(new StorageMoveProgress("preparing", plan.DataBytes, 0));
            await TargetImage.ReserveAsync(journal, context.Processes, cancellationToken);
            await (plan.Running ? CopyRunningAsync(plan, journal, point, cancellationToken) : CopyStoppedAsync(plan, journal, cancellationToken));
        }
        finally
        {
            await EndAsync();
        }
        return new StorageMoveOutcome(
            [.. plan.Disks.Select(move => new MovedDisk(move, moved.GetValueOrDefault(move.Disk.Name).Bytes, moved.GetValueOrDefault(move.Disk.Name).Elapsed))], interruption, kept, plan.Findings);
    }

    private async Task EndAsync()
    {
        try
        {
            kept = await recovery.EndAsync(request.Log, CancellationToken.None) ?? kept;
        }
        catch (FaultException fault)
        {
            request.Log($"The move could not be tidied up now: {fault.Message} The next start of the agent, or the next backup, does it.");
        }
    }

    private async Task CopyRunningAsync(StorageMovePlan plan, MoveJournal journal, Id16 point, CancellationToken cancellationToken)
    {
        var begun = context.Time.GetTimestamp();
        var run = new BlockCopyRun(context, connection, request, journal);
        await run.BeginAsync(cancellationToken);
        await run.WaitAsync(cancellationToken);
        cancellationToken.ThrowIfCancellationRequested();
        request.Progress(new StorageMoveProgress("changing over", run.Reached.Values.Sum(static reached => reached.Total), run.Reached.Values.Sum(static reached => reached.Done)));
        var folder = await ScratchFolder.CreateAsync(context.Options, request.Machine, point, null, context.Processes, cancellationToken);
        await run.PivotAsync(folder);
        interruption = run.Interruption;
        foreach (var move in plan.Disks)
        {
            moved[move.Disk.Name] = (run.Reached.GetValueOrDefault(move.Disk.Name).Done, context.Time.GetElapsedTime(begun));
        }
    }

    private async Task CopyStoppedAsync(StorageMovePlan plan, MoveJournal journal, CancellationToken cancellationToken)
    {
        // Held until the old images are gone, so that nobody starts the machine on them.
        await using var copy = await ColdCopy.OpenAsync([.. plan.Disks.Select(static move => move.OldPath)], context.ImageTools, cancellationToken);
        await copy.CopyAllAsync(plan, request, context.Options.QemuImg, context.Processes, (move, bytes, elapsed) => moved[move.Disk.Name] = (bytes, elapsed), cancellationToken);
        journal.Enter(MoveStage.Pivoting);
        await connection.ChangeAsync(libvirt =>
        {
            using var domain = Domains.Find(libvirt, request.Machine);
            MovedDomain.Redirect(libvirt, domain, journal.Disks);
            return true;
        }, CancellationToken.None);
        await EndAsync();
    }
}

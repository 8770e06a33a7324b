using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>Moves the disks of a QEMU machine, live by mirror jobs, or file by file when it is off.</summary>
internal sealed class QemuMover(QemuDriverContext context, QemuMachine machine, StorageMoveRequest request)
{
    private const int TagBytes = 4;
    private readonly Dictionary<string, (long Bytes, TimeSpan Elapsed)> moved = new(StringComparer.Ordinal);
    private TimeSpan? interruption;
    private IReadOnlyList<string> kept = [];

    public async Task<StorageMoveOutcome> MoveAsync(CancellationToken cancellationToken)
    {
        var recovery = new MoveRecovery(context, machine);
        await recovery.EndAsync(cancellationToken);
        var (plan, nodes) = await new QemuMovePlanner(context, machine).PlanAsync(request, cancellationToken);
        if (plan.Refused)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The disks of {machine.Name} cannot be moved: "
                + FindingMessages.OfObstacles(plan.Findings));
        }
        if (plan.Disks.Count == 0)
        {
            return new StorageMoveOutcome([], null, [], plan.Findings);
        }
        if (plan.Running)
        {
            await RememberAsync(cancellationToken);
        }
        var tag = NewTag();
        var journal = MoveJournal.Begin(context.Options.StateFolder!, machine.Uuid, machine.Name, tag, request.KeepSource,
            [.. plan.Disks.Select((move, i) => new MovingDisk(move.Disk.Name, move.OldPath, move.NewPath, move.Disk.Format, move.Format, nodes.GetValueOrDefault(move.Disk.Name, ""), MoveNames.Job(tag, i)))],
            TargetImage.FindNewFolders(plan.Disks.Select(static move => move.NewPath)));
        try
        {
            request.Progress(new StorageMoveProgress("preparing", plan.DataBytes, 0));
            await TargetImage.ReserveAsync(journal, context.Processes, cancellationToken);
            await (plan.Running ? MirrorAsync(plan, journal, tag, cancellationToken) : CopyAsync(plan, journal, cancellationToken));
        }
        finally
        {
            await EndAsync(recovery);
        }
        return new StorageMoveOutcome(
            [.. plan.Disks.Select(move => new MovedDisk(move, moved.GetValueOrDefault(move.Disk.Name).Bytes, moved.GetValueOrDefault(move.Disk.Name).Elapsed))], interruption, kept, plan.Findings);
    }

    // What it throws stands for the move's failure only where there was none: else the journal stays, and the next settlement tries again.
    private async Task EndAsync(MoveRecovery recovery)
    {
        try
        {
            kept = await recovery.EndAsync(CancellationToken.None) ?? kept;
        }
        catch (FaultException fault)
        {
            request.Log($"The move could not be tidied up now: {fault.Message} The next start of the agent, or the next backup, does it.");
        }
    }

    private async Task MirrorAsync(StorageMovePlan plan, MoveJournal journal, string tag, CancellationToken cancellationToken)
    {
        var begun = context.Time.GetTimestamp();
        foreach (var (move, disk) in plan.Disks.Zip(journal.Disks))
        {
            await TargetImage.CreateAsync(context.Options.QemuImg, disk.NewPath, disk.NewFormat, move.Disk.LengthBytes, context.Processes, cancellationToken);
        }
        var run = new MirrorRun(context, machine, request, journal);
        await run.BeginAsync(cancellationToken);
        await run.WaitAsync(cancellationToken);
        cancellationToken.ThrowIfCancellationRequested();
        request.Log($"Both places are equal after {context.Time.GetElapsedTime(begun).TotalSeconds:0.0} s; the machine changes over.");
        request.Progress(new StorageMoveProgress("changing over", run.Reached.Values.Sum(static reached => reached.Total), run.Reached.Values.Sum(static reached => reached.Done)));
        await run.PivotAsync(MakeMarkFolder(journal, tag));
        interruption = run.Interruption;
        foreach (var disk in journal.Disks)
        {
            moved[disk.Name] = (run.Reached.GetValueOrDefault(disk.Job).Done, context.Time.GetElapsedTime(begun));
        }
    }

    // Whoever lets the guest go on in the place of this process finds the journal by it.
    private string MakeMarkFolder(MoveJournal journal, string tag)
    {
        var folder = Path.Combine(context.Options.FleeceFolder, MoveNames.Folder(machine.Uuid, tag));
        try
        {
            Directory.CreateDirectory(context.Options.FleeceFolder);
            PrivateFolder.Create(folder);
            File.WriteAllText(Path.Combine(folder, MoveNames.JournalMark), journal.FilePath);
            return folder;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The fleece folder {context.Options.FleeceFolder} cannot be written to: {failure.Message}", failure);
        }
    }

    private async Task CopyAsync(StorageMovePlan plan, MoveJournal journal, CancellationToken cancellationToken)
    {
        // Held until the old images are gone, so that nobody starts the machine on them.
        await using var copy = await ColdCopy.OpenAsync([.. plan.Disks.Select(static move => move.OldPath)], context.ImageTools, cancellationToken);
        await copy.CopyAllAsync(plan, request, context.Options.QemuImg, context.Processes, (move, bytes, elapsed) => moved[move.Disk.Name] = (bytes, elapsed), cancellationToken);
        journal.Enter(MoveStage.Settled, [.. journal.Disks.Select(static disk => disk with { Moved = true })]);
        await EndAsync(new MoveRecovery(context, machine));
    }

    // How it is started must be known before it can be written down that it is started otherwise.
    private async Task RememberAsync(CancellationToken cancellationToken)
    {
        await using var qmp = await new PatientMonitor(context, machine).OpenAsync(cancellationToken);
        var disks = await BlockInventory.ReadAsync(qmp, machine.Uuid, new HashSet<string>(), cancellationToken);
        var configuration = await MachineDescriber.DescribeAsync(qmp, machine, disks, context.Options.StateFolder, cancellationToken);
        LastSeen.Write(context.Options.StateFolder, machine.Uuid, configuration.Native.Span);
    }

    private string NewTag()
    {
        Span<byte> tag = stackalloc byte[TagBytes];
        context.Entropy.Fill(tag);
        return Convert.ToHexStringLower(tag);
    }
}

using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Controller.Control;

/// <summary>Between a job's row and the messages that an agent exchanges about it.</summary>
internal static class JobMessages
{
    /// <summary>Largest options of one job, bytes on the wire.</summary>
    public const int OptionsBytesMax = 2 << 20;

    /// <summary>Options up to this are in the list of assignments; the agent asks for longer ones.</summary>
    private const int OptionsInlineBytesMax = 16 << 10;

    /// <summary>What the list itself, and a job's frame in it, take; a job never grows by more than this while it is assigned.</summary>
    private const int FrameBytesMax = 64;

    private const int MessageCharsMax = 4096;
    private const int PhaseCharsMax = 64;

    /// <summary>Largest result that is kept, bytes on the wire.</summary>
    private const int ResultBytesMax = 1 << 20;

    public static Job ToAssignment(JobRow row)
    {
        var job = new Job { JobId = row.JobId.ToString(), Attempt = (ulong)row.Attempt, Cancel = row.CancelRequested };
        var vm = WireText.ToText(row.VmId);
        var point = WireText.ToText(row.PointId);
        switch (row.Kind)
        {
            case JobKind.Backup:
                job.Backup = new BackupTask { VmId = vm, PointId = point, Options = InlineOptions(row), OptionsApart = row.Options.Length > OptionsInlineBytesMax };
                break;
            case JobKind.Restore:
                job.Restore = new RestoreTask
                {
                    VmId = vm, PointId = point, Options = RestoreOptions.Parser.ParseFrom(row.Options), Start = row.Start.Length > 0 ? StartOrder.Parser.ParseFrom(row.Start) : null,
                };
                break;
            case JobKind.BackupPlan:
                job.PlanBackup = new PlanBackupTask { VmId = vm, Options = InlineOptions(row), OptionsApart = row.Options.Length > OptionsInlineBytesMax };
                break;
            case JobKind.RestoreCheck:
                job.CheckRestore = new CheckRestoreTask { VmId = vm, PointId = point, Options = RestoreOptions.Parser.ParseFrom(row.Options) };
                break;
            case JobKind.MoveStorage:
                job.MoveStorage = new MoveStorageTask { VmId = vm, Options = StorageMoveOptions.Parser.ParseFrom(row.Options) };
                break;
            case JobKind.MoveStorageCheck:
                job.CheckMoveStorage = new CheckMoveStorageTask { VmId = vm, Options = StorageMoveOptions.Parser.ParseFrom(row.Options) };
                break;
            case JobKind.StopMachine:
                job.StopMachine = new StopMachineTask { VmId = vm, Options = StopOptions.Parser.ParseFrom(row.Options) };
                break;
            case JobKind.StartMachine:
                job.StartMachine = new StartMachineTask { VmId = vm };
                break;
            case JobKind.RetireMachine:
                job.RetireMachine = RetireMachineTask.Parser.ParseFrom(row.Options);
                job.RetireMachine.VmId = vm;
                break;
            default:
                Check.That(row.Kind is not (JobKind.Verify or JobKind.Retention or JobKind.Collection or JobKind.Scrub or JobKind.Migration or JobKind.MigrationPlan or JobKind.GroupBackup or JobKind.Recovery));
                break;
        }
        return job;
    }

    public static byte[] WithGate(byte[] start, StartOrder.Types.Gate gate) => new StartOrder(StartOrder.Parser.ParseFrom(start)) { Gate = gate }.ToByteArray();

    /// <summary>Restores of the job's run that its agent is given side by side; 0: it belongs to none.</summary>
    public static int SideBySide(JobRow row) => row.Start.Length > 0 ? (int)Math.Min(StartOrder.Parser.ParseFrom(row.Start).SideBySide, 1000) : 0;

    /// <summary>Room that the job takes in a list of assignments, whatever becomes of it.</summary>
    public static int AssignedBytes(Job job) => job.CalculateSize() + FrameBytesMax;

    /// <summary>The job as the report describes it; bounds are enforced here, the rules of a job's life are not.</summary>
    public static JobRow Apply(JobRow row, JobReport report, long nowMs)
    {
        row = row with { StartedMs = row.StartedMs ?? nowMs, Progress = ToBytes(report.Progress) ?? row.Progress };
        switch (report.State)
        {
            case JobState.Queued:
                return row;
            case JobState.Running:
                return row with { State = JobPhase.Running };
            case JobState.Succeeded:
                return row with { State = JobPhase.Succeeded, EndedMs = nowMs, Result = ToResult(row.Kind, report) };
            case JobState.Cancelled:
                return row with { State = JobPhase.Cancelled, EndedMs = nowMs };
            case JobState.Failed:
                return row with
                {
                    State = JobPhase.Failed,
                    EndedMs = nowMs,
                    FailureMessage = WireText.Shortened(report.FailureMessage, MessageCharsMax),
                    FailureReason = FaultStatus.FromReason(report.FailureReason),
                };
            default:
                throw new FaultException(FaultReason.InvalidArgument, "The report does not say in which state the job is.");
        }
    }

    /// <summary>Whether the job is that of one machine of a group.</summary>
    public static bool IsOfGroup(JobRow row) => row.Kind == JobKind.Backup && InlineOptions(row) is { GroupRunId.Length: > 0 };

    private static BackupOptions? InlineOptions(JobRow row) => row.Options.Length <= OptionsInlineBytesMax ? BackupOptions.Parser.ParseFrom(row.Options) : null;

    private static byte[]? ToBytes(Progress? progress) =>
        progress is null ? null
        : progress.Phase.Length <= PhaseCharsMax ? progress.ToByteArray()
        : throw new FaultException(FaultReason.InvalidArgument, $"A job's phase has at most {PhaseCharsMax} characters.");

    private static byte[] ToResult(JobKind kind, JobReport report)
    {
        IMessage? result = kind switch
        {
            JobKind.Backup => report.Backup,
            JobKind.Restore => report.Restore,
            JobKind.BackupPlan => report.PlanBackup,
            JobKind.RestoreCheck => report.CheckRestore,
            JobKind.MoveStorage => report.MoveStorage,
            JobKind.MoveStorageCheck => report.CheckMoveStorage,
            JobKind.StopMachine => report.StopMachine,
            JobKind.StartMachine => report.StartMachine,
            JobKind.RetireMachine => report.RetireMachine,
            _ => null,
        };
        if (result is null)
        {
            throw new FaultException(FaultReason.InvalidArgument, "A report of success must carry the result that belongs to the job.");
        }
        return result.CalculateSize() <= ResultBytesMax
            ? result.ToByteArray()
            : throw new FaultException(FaultReason.InvalidArgument, $"A job's result has at most {ResultBytesMax} bytes.");
    }
}

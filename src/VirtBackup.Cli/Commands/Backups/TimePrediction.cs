using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Commands.Backups;

/// <summary>How long a backup will take, judged by the last ones: of the same machine, else of the same agent.</summary>
internal static class TimePrediction
{
    /// <summary>How many backups are judged by.</summary>
    private const int BackupsMax = 10;

    /// <returns>Null: nothing has been backed up that could tell.</returns>
    public static async Task<TimePredictionView?> MakeAsync(ControllerConnection controller, JobView planned, BackupPlanView plan, CancellationToken cancellationToken)
    {
        var bytes = plan.Disks.Where(static disk => !disk.Skipped).Aggregate(0UL, static (sum, disk) => sum + disk.ReadBytes);
        var own = await controller.ListJobsAsync(planned.VmId ?? "", runningOnly: false, BackupsMax, IsBackup, cancellationToken);
        if (Predict(bytes, own, planned.Vm) is { } prediction)
        {
            return prediction;
        }
        var others = await controller.ListJobsAsync("", runningOnly: false, BackupsMax, job => IsBackup(job) && job.Agent == planned.Agent, cancellationToken);
        return Predict(bytes, others, null);
    }

    private static bool IsBackup(Job job) => job is { State: JobState.Succeeded, Result.Backup: not null, StartTime: not null, EndTime: not null };

    private static TimePredictionView? Predict(ulong bytes, List<Job> backups, string? vm)
    {
        var times = backups.ConvertAll(static job => (Bytes: (double)job.Result.Backup.ReadBytes, Seconds: (job.EndTime - job.StartTime).ToTimeSpan().TotalSeconds));
        var (read, spent) = (times.Sum(static time => time.Bytes), times.Sum(static time => time.Seconds));
        if (read <= 0 || spent <= 0)
        {
            return null;
        }
        // Even a backup that reads nothing takes the time of a small one.
        var rate = read / spent;
        return new TimePredictionView(Math.Max(times.Min(static time => time.Seconds), bytes / rate), backups.Count, vm, rate);
    }
}

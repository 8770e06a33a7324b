using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Agent.Capture;

/// <summary>What a backup reports.</summary>
internal static class BackupOutcome
{
    public static BackupResult Of(Id16 point, ICapture capture, IReadOnlyList<DiskRun> disks, long bytesSent, Protocol.Common.V1.GuestImpact? fared, bool cutAnew)
    {
        var result = new BackupResult
        {
            PointId = point.ToString(),
            Consistency = (Protocol.Common.V1.Consistency)(int)capture.Consistency,
            ConsistencyDetail = capture.ConsistencyDetail,
            BytesRead = (ulong)disks.Sum(disk => disk.BytesRead),
            BytesSent = (ulong)bytesSent,
            Impact = fared, CutAnew = cutAnew,
        };
        result.Disks.AddRange(disks.Where(disk => disk.Kind == StreamKind.Disk).Select(disk => new Protocol.Common.V1.DiskPlan
        {
            DiskId = disk.Source.Disk.Id.ToString(), Name = disk.Source.Disk.Name,
            LengthBytes = (ulong)disk.Source.Disk.LengthBytes,
            ChangedOnly = disk.Source.ChangedOnly,
            ReadBytes = (ulong)disk.BytesRead,
            Reason = disk.Source.Reason,
        }));
        result.Disks.AddRange(capture.SkippedDisks.Select(disk => new Protocol.Common.V1.DiskPlan
        {
            DiskId = disk.Id.ToString(), Name = disk.Name, LengthBytes = (ulong)disk.LengthBytes, Reason = disk.SkipReason ?? "", Skipped = true,
        }));
        return result;
    }

    public static BackupResult OfEarlier(Id16 point, RunProgress progress)
    {
        const string what = "An earlier attempt of this job had committed the recovery point; only its answer was lost.";
        progress.Log(what);
        return new BackupResult { PointId = point.ToString(), ConsistencyDetail = what };
    }
}

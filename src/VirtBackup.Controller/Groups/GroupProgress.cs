using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Groups;

/// <summary>Adds up what the jobs of a group's machines have done. Safe for concurrent use.</summary>
internal sealed class GroupProgress(Id16 runId, int members, JobService jobs, TimeProvider time)
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private readonly Dictionary<Id16, JobRow> _newest = [];
    private long _toldAt;

    public async ValueTask NoteAsync(JobRow job, CancellationToken cancellationToken)
    {
        Progress sum;
        lock (_lock)
        {
            _newest[job.JobId] = job;
            if (!job.IsFinal && _toldAt != 0 && time.GetElapsedTime(_toldAt) < Interval)
            {
                return;
            }
            _toldAt = time.GetTimestamp();
            sum = Add();
        }
        await jobs.ProgressAsync(runId, sum.ToByteArray(), cancellationToken);
    }

    private Progress Add()
    {
        var sum = new Progress { Phase = $"storing: {_newest.Values.Count(static job => job.IsFinal)} of {members} done" };
        foreach (var row in _newest.Values.Where(static job => job.Progress.Length > 0))
        {
            var part = Progress.Parser.ParseFrom(row.Progress);
            sum.BytesTotal += part.BytesTotal;
            sum.BytesDone += part.BytesDone;
            sum.BytesSent += part.BytesSent;
            sum.ChunksNew += part.ChunksNew;
            sum.ChunksKnown += part.ChunksKnown;
            sum.ChunksZero += part.ChunksZero;
            sum.BytesAudited += part.BytesAudited;
            sum.AuditMisses += part.AuditMisses;
        }
        return sum;
    }
}

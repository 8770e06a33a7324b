using Google.Protobuf;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Agent.Control;

/// <summary>Fetches the options of jobs for which the list of assignments had no room. Safe for concurrent use.</summary>
internal sealed class TaskOptions(IControlTransport control, CaptureTools tools)
{
    private const int BytesMax = 2 << 20;
    private const int AttemptsMax = 8;

    /// <summary>The job with its options.</summary>
    /// <exception cref="FaultException">The controller cannot be reached, does not know the job, or sends what is no options.</exception>
    public async Task<Job> CompleteAsync(Job job, CancellationToken cancellationToken)
    {
        if (job is not ({ Backup.OptionsApart: true } or { PlanBackup.OptionsApart: true }))
        {
            return job;
        }
        var whole = job.Clone();
        var options = await FetchAsync(job, cancellationToken);
        if (whole.TaskCase == Job.TaskOneofCase.Backup)
        {
            whole.Backup.Options = options;
        }
        else
        {
            whole.PlanBackup.Options = options;
        }
        return whole;
    }

    private async Task<BackupOptions> FetchAsync(Job job, CancellationToken cancellationToken)
    {
        var backoff = new Backoff(tools.Time, tools.Entropy);
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                return await ReadAsync(job, cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable && attempt < AttemptsMax)
            {
                await backoff.WaitAsync(cancellationToken);
            }
        }
    }

    private async Task<BackupOptions> ReadAsync(Job job, CancellationToken cancellationToken)
    {
        using var bytes = new MemoryStream();
        await foreach (var slice in control.ReadTaskOptionsAsync(new ReadTaskOptionsRequest { JobId = job.JobId, Attempt = job.Attempt }, cancellationToken))
        {
            if (bytes.Length + slice.Data.Length > BytesMax)
            {
                throw FaultException.Malformed($"The controller sent more than {BytesMax} bytes of options for job {job.JobId}.");
            }
            slice.Data.WriteTo(bytes);
        }
        try
        {
            return BackupOptions.Parser.ParseFrom(bytes.GetBuffer(), 0, (int)bytes.Length);
        }
        catch (InvalidProtocolBufferException broken)
        {
            throw new FaultException(FaultReason.Malformed, $"The controller sent options for job {job.JobId} that cannot be read.", broken);
        }
    }
}

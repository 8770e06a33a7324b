using VirtBackup.Controller;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Installation;

/// <summary>Has the controller do jobs of its own: all its loops run while somebody waits for one.</summary>
internal sealed class OwnJobRunner(Site site, TimeProvider time)
{
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);

    private Loops? _loops;

    /// <summary>Starts a job and waits for its end; its result.</summary>
    /// <exception cref="FaultException">It failed.</exception>
    /// <exception cref="OperationCanceledException">The power failed.</exception>
    public async Task<JobResult> RunAsync(Func<ControllerRole, ValueTask<Job>> start)
    {
        var (role, power) = site.Connect() ?? throw Cable.Unreachable();
        if (_loops is null || _loops.Role != role)
        {
            _loops = new Loops(role);
        }
        var loops = _loops;
        loops.Users++;
        try
        {
            var job = await start(role).AsTask().WaitAsync(power.Off);
            while (job.State is JobState.Queued or JobState.Running)
            {
                await Task.Delay(Poll, time, power.Off);
                if (loops.Work.IsCompleted && !power.IsOff)
                {
                    throw new RefutedException($"The controller stopped working: {loops.Work.Exception?.InnerException}");
                }
                job = (await role.Admin.GetJobAsync(new GetJobRequest { JobId = job.JobId }, CancellationToken.None).AsTask().WaitAsync(power.Off)).Job;
            }
            return job.State == JobState.Succeeded ? job.Result : throw new FaultException(FaultReason.FailedPrecondition, $"{job.Kind}: {job.FailureMessage}");
        }
        finally
        {
            if (--loops.Users == 0)
            {
                _loops = _loops == loops ? null : _loops;
                await loops.Stop.CancelAsync();
                if (!power.IsOff)
                {
                    await loops.Work.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
                }
            }
        }
    }

    private sealed class Loops
    {
        public Loops(ControllerRole role)
        {
            Role = role;
            Work = role.RunAsync(Stop.Token);
        }

        public ControllerRole Role { get; }

        public CancellationTokenSource Stop { get; } = new();

        public Task Work { get; }

        public int Users { get; set; }
    }
}

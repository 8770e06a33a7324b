using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Following;

/// <summary>A plain line now and then, for logs and pipes: when the phase changes, and every few seconds.</summary>
internal sealed class LineDisplay(TextWriter writer, TimeProvider time) : IJobDisplay
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);

    private readonly TransferRate _rate = new(time);
    private string _phase = "";
    private long _shown;

    public Task<Job> RunAsync(Func<Action<Job>, Task<Job>> follow) => follow(Show);

    private void Show(Job job)
    {
        _rate.Add(job.Progress?.BytesDone ?? 0);
        var phase = ProgressText.PhaseOf(job);
        if (phase == _phase && time.GetElapsedTime(_shown) < Interval)
        {
            return;
        }
        (_phase, _shown) = (phase, time.GetTimestamp());
        writer.WriteLine(ProgressText.LineOf(job, _rate));
    }
}

using Spectre.Console;
using Spectre.Console.Rendering;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Following;

/// <summary>A progress bar that lives while the job runs, for terminals.</summary>
internal sealed class LiveDisplay(IAnsiConsole console, TimeProvider time) : IJobDisplay
{
    private const int BarMax = 30;
    private const int PercentWidth = 4;
    private const int Gaps = 4;

    private readonly Lock _lock = new();
    private readonly TransferRate _rate = new(time);
    private Job _job = new();

    public Task<Job> RunAsync(Func<Action<Job>, Task<Job>> follow) =>
        console.Progress()
            .AutoClear(true)
            .Columns(new TextColumn(() => ProgressText.PhaseOf(_job)), new ProgressBarColumn { Width = BarWidth }, new PercentageColumn(),
                new TextColumn(() => ProgressText.RateOf(_job, _rate, RoomForRate)))
            .StartAsync(async display =>
            {
                var task = display.AddTask("job");
                task.IsIndeterminate = true;
                return await follow(job => Show(task, job));
            });

    // A quarter of the terminal, so that a narrow one has room for words.
    private int BarWidth => Math.Clamp(console.Profile.Width / 4, 1, BarMax);

    private int RoomForRate => Math.Max(0, console.Profile.Width - BarWidth - PercentWidth - Gaps - ProgressText.PhaseOf(_job).Length);

    private void Show(ProgressTask task, Job job)
    {
        lock (_lock)
        {
            _job = job;
            var (done, total) = (job.Progress?.BytesDone ?? 0, job.Progress?.BytesTotal ?? 0);
            _rate.Add(done);
            task.IsIndeterminate = total == 0;
            if (total > 0)
            {
                task.MaxValue = total;
                task.Value = done;
            }
        }
    }

    /// <summary>Any text, taken when it is drawn.</summary>
    private sealed class TextColumn(Func<string> text) : ProgressColumn
    {
        protected override bool NoWrap => true;

        public override IRenderable Render(RenderOptions options, ProgressTask task, TimeSpan deltaTime) =>
            new Text(text(), TextLayout.Faint) { Overflow = Overflow.Ellipsis };
    }
}

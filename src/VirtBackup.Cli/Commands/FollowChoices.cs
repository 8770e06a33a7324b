using System.CommandLine;
using VirtBackup.Cli.Following;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands;

/// <summary>The options of verbs that start a job and watch it.</summary>
internal sealed class FollowChoices
{
    private readonly Option<bool> _detach = new("--detach", "-d") { Description = "Start the job and return at once" };
    private readonly Option<bool> _cancel = new("--cancel-on-interrupt") { Description = "Ctrl-C cancels the job, instead of letting it go on" };

    public void AddTo(Command command)
    {
        command.Add(_detach);
        command.Add(_cancel);
    }

    public async Task<int> FollowAsync(ParseResult parse, Job job, JobFollower follower, Func<ResultView?, int>? judge = null, Func<JobView, Task<JobView>>? complete = null)
    {
        if (!parse.GetValue(_detach))
        {
            return await follower.FollowAsync(job, parse.GetValue(_cancel) ? OnInterrupt.Cancel : OnInterrupt.Detach, judge, complete);
        }
        follower.WriteDetached(job);
        return ExitCode.Succeeded;
    }
}

using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Following;

/// <summary>Shows how a job goes on.</summary>
internal interface IJobDisplay
{
    /// <summary>Runs <paramref name="follow"/>, which tells every news of the job, and shows it meanwhile.</summary>
    Task<Job> RunAsync(Func<Action<Job>, Task<Job>> follow);
}

/// <summary>Shows nothing: for programs.</summary>
internal sealed class SilentDisplay : IJobDisplay
{
    public Task<Job> RunAsync(Func<Action<Job>, Task<Job>> follow) => follow(static _ => { });
}

using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using static VirtBackup.Controller.Tests.StoreTests;
using AgentResult = VirtBackup.Protocol.Agent.V1.RestoreResult;

namespace VirtBackup.Controller.Tests;

public sealed class EstimateTests
{
    private static readonly RestoreEstimate Boast = new() { P50Seconds = 1, P90Seconds = 1, Path = "whatever an agent says" };

    private static RestoreSurvey Survey => new() { Path = "/srv (ext4 on /dev/sda1), image, raw", DataBytes = 1 << 30, SampleBytes = 4 << 20, SampleWireBytes = 1 << 20, SampleSeconds = 0.04 };

    [Fact]
    public async Task A_restore_is_estimated_before_it_writes_and_scored_when_it_is_over()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var point = (await BackUpAsync(agent, NewDisk())).PointId;
        var job = (await world.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = point, Agent = agent.Name }, World.Token)).Job;
        await agent.ReportAsync(job.JobId, 1, JobState.Running, report => (report.Survey, report.Progress) = (Survey, new Progress { Phase = "writing", Estimate = Boast }));
        var told = (await world.GetJobAsync(job.JobId)).Progress.Estimate;
        Assert.Equal(($"{agent.Name} → {Survey.Path}", 1UL << 30, 1UL << 28, 0u, 0u), (told.Path, told.DataBytes, told.WireBytes, told.JudgedBy, told.Record.Scored));
        Assert.InRange(told.P50Seconds, 8, 15);
        Assert.True(told.P90Seconds > 2 * told.P50Seconds);

        await agent.ReportAsync(job.JobId, 1, JobState.Succeeded, report =>
            (report.Survey, report.Restore) = (Survey, new AgentResult { ElapsedSeconds = 12.5, BytesWritten = 1 << 30, Estimate = Boast }));
        var over = (await world.GetJobAsync(job.JobId)).Result.Restore.Estimate;
        Assert.Equal((12.5, told.P90Seconds), (over.ActualSeconds, over.P90Seconds));

        // The next one on this path is judged by it, and the plan shows the record.
        var check = (await world.Role.Admin.StartRestoreCheckAsync(new StartRestoreCheckRequest { Point = point, Agent = agent.Name }, World.Token)).Job;
        await agent.ReportAsync(check.JobId, 1, JobState.Succeeded, report => (report.Survey, report.CheckRestore) = (Survey, new CheckRestoreResult()));
        var planned = (await world.GetJobAsync(check.JobId)).Result.RestoreCheck.Estimate;
        Assert.Equal((1u, 1u, 1u), (planned.JudgedBy, planned.Record.Scored, planned.Record.WithinP90));
    }

    [Fact]
    public async Task What_comes_to_nothing_is_not_scored_and_what_is_blocked_has_no_estimate()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var point = (await BackUpAsync(agent, NewDisk())).PointId;
        var job = (await world.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = point, Agent = agent.Name }, World.Token)).Job;
        await agent.ReportAsync(job.JobId, 1, JobState.Running, report => (report.Survey, report.Progress) = (Survey, new Progress { Phase = "writing" }));
        await agent.ReportAsync(job.JobId, 1, JobState.Failed, report => report.FailureMessage = "no");
        var check = (await world.Role.Admin.StartRestoreCheckAsync(new StartRestoreCheckRequest { Point = point, Agent = agent.Name }, World.Token)).Job;
        await agent.ReportAsync(check.JobId, 1, JobState.Succeeded, report => report.CheckRestore = new CheckRestoreResult
        {
            Estimate = Boast, Findings = { new RestoreFinding { Item = "space", Severity = RestoreFinding.Types.Severity.Blocks, Message = "none" } },
        });
        Assert.Null((await world.GetJobAsync(check.JobId)).Result.RestoreCheck.Estimate);
        Assert.Null(await world.Role.Catalog.Estimates.FindAsync(Id16.Parse(job.JobId), World.Token));
    }

    [Fact]
    public async Task A_survey_that_makes_no_sense_stops_no_restore()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var point = (await BackUpAsync(agent, NewDisk())).PointId;
        RestoreSurvey[] surveys =
        [
            new() { Path = new string('x', 1000) }, new() { Path = "p", DataBytes = ulong.MaxValue, SampleBytes = ulong.MaxValue, SampleWireBytes = ulong.MaxValue, SampleSeconds = double.NaN },
            new() { Path = "p", SampleBytes = 1, SampleSeconds = double.PositiveInfinity }, new() { Path = "p", SampleBytes = 1, SampleSeconds = -1 },
        ];
        foreach (var survey in surveys)
        {
            var job = (await world.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = point, Agent = agent.Name }, World.Token)).Job;
            await agent.ReportAsync(job.JobId, 1, JobState.Succeeded, report => (report.Survey, report.Restore) = (survey, new AgentResult { ElapsedSeconds = double.NaN }));
            Assert.Equal(JobState.Succeeded, (await world.GetJobAsync(job.JobId)).State);
        }
    }
}

using System.Globalization;
using VirtBackup.Testing.Installations;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>An agent that is told to give way. What it does at that priority is the same, and here others may keep it from doing it for minutes.</summary>
public sealed class PriorityTests
{
    private const int IdlePolicy = 5;

    // proc(5): field 41, behind the name in brackets and counted from there.
    private const int PolicyField = 38;

    // As many as the runtime has before there is work.
    private const int ThreadsMin = 8;

    [Fact]
    public async Task All_threads_of_an_agent_get_what_nobody_else_wants()
    {
        await using var installation = await Installation.CreateAsync();
        await installation.Controller.StartAsync();
        var agent = await installation.EnrollAsync("host");
        agent.Append("priority: idle");
        // Whether it connects is up to the others here.
        agent.Service.Launch();
        await Installation.PollAsync("idle threads", () => Task.FromResult(
            Directory.GetDirectories($"/proc/{agent.Service.Pid}/task") is { Length: >= ThreadsMin } threads && threads.All(static thread => PolicyOf(thread) is null or IdlePolicy)));
        await agent.Service.KillAsync();
    }

    private static int? PolicyOf(string thread)
    {
        try
        {
            var stat = File.ReadAllText(Path.Combine(thread, "stat"));
            return int.Parse(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[PolicyField], CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return null;
        }
    }
}

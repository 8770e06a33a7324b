using VirtBackup.Testing.Lab;

namespace VirtBackup.Lab.Tests;

/// <summary>Programs beside a test are run, watched and ended.</summary>
public sealed class ProcTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Result_holds_code_and_both_outputs()
    {
        var result = await Proc.ShellAsync("echo one; echo two >&2; exit 7", cancellationToken: Token);
        Assert.Equal((7, "one\n", "two\n"), (result.ExitCode, result.Stdout, result.Stderr));
        var thrown = Assert.Throws<LabException>(result.EnsureSuccess);
        Assert.Contains("two", thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Arguments_are_not_touched_by_a_shell()
    {
        Assert.Equal("a b $HOME 'x'\n", await Proc.CheckAsync("echo", ["a b", "$HOME", "'x'"], cancellationToken: Token));
    }

    [Fact]
    public async Task Timeout_kills_the_program_and_its_children()
    {
        using var directory = new LabDirectory();
        var pids = directory.File("pids");
        var thrown = await Assert.ThrowsAsync<TimeoutException>(() => Proc.ShellAsync(
            $"sleep 1000 & echo $! $$ > {pids}; echo begun; wait", TimeSpan.FromSeconds(1), cancellationToken: Token));
        Assert.Contains("begun", thrown.Message, StringComparison.Ordinal);
        foreach (var pid in (await File.ReadAllTextAsync(pids, Token)).Split(' '))
        {
            // A killed orphan can stay a zombie where nothing reaps it; it runs no more either way.
            var status = $"/proc/{pid.Trim()}/status";
            Assert.True(!File.Exists(status) || (await File.ReadAllTextAsync(status, Token)).Contains("State:\tZ", StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task Background_program_is_awaited_by_its_output_and_killed()
    {
        await using var running = BackgroundProc.Start("sh", ["-c", "echo ready for work; exec sleep 1000"]);
        Assert.Equal("ready for work", await running.WaitForLineAsync("ready", cancellationToken: Token));
        Assert.Matches("^ +(sh|sleep) +[RSD] ", running.Threads);
        await running.KillAsync(Token);
        Assert.Equal(128 + 9, await running.WaitForExitAsync(Token));
        await Assert.ThrowsAsync<LabException>(() => running.WaitForLineAsync("never", cancellationToken: Token));
    }

    [Fact]
    public async Task A_program_that_is_not_there_is_named()
    {
        var thrown = await Assert.ThrowsAsync<LabException>(() => Proc.RunAsync("no-such-program", [], cancellationToken: Token));
        Assert.Contains("no-such-program", thrown.Message, StringComparison.Ordinal);
    }
}

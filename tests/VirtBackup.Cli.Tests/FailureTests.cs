using System.Net;
using System.Net.Sockets;
using VirtBackup.Cli.Tests.Fixtures;

namespace VirtBackup.Cli.Tests;

/// <summary>Every expected failure says what is wrong, what to do next, and has its exit code.</summary>
public sealed class FailureTests : IDisposable
{
    private readonly TempFolder _home = new();

    [Theory]
    [InlineData("backup")]
    [InlineData("backup run")]
    [InlineData("backup run web1 --rate-limit much")]
    [InlineData("vm list --output xml")]
    [InlineData("job list --limit 0")]
    [InlineData("job list --limit many")]
    [InlineData("agent token --lifetime 8d")]
    [InlineData("completion powershell")]
    [InlineData("frobnicate")]
    public async Task Wrong_usage(string line)
    {
        var outcome = await CommandLine.RunAsync(_home, line.Split(' '));
        Assert.Equal(2, outcome.ExitCode);
        Assert.Empty(outcome.Output);
        Assert.Contains(outcome.Error.Split('\n'), static text => text.StartsWith("error: ", StringComparison.Ordinal));
        Assert.Contains("next: virtbackup", outcome.Error);
        Assert.Contains("--help", outcome.Error);
    }

    [Theory]
    [InlineData("bakcup run web1", "There is no command 'bakcup'. Did you mean 'backup'?", "virtbackup --help")]
    [InlineData("job lst", "There is no command 'lst'. Did you mean 'list'?", "virtbackup job --help")]
    [InlineData("vm frobnicate", "There is no command 'frobnicate'. There are: list, show, accept.", "virtbackup vm --help")]
    public async Task A_word_that_is_wrong_is_named(string line, string message, string next)
    {
        (await CommandLine.RunAsync(_home, line.Split(' '))).Fails(2, message, next);
        (await CommandLine.RunAsync(_home, [.. line.Split(' '), "--output", "json"])).FailsAsJson(2, "usage", message, next);
    }

    [Fact]
    public async Task Without_a_command_there_is_help()
    {
        var outcome = await CommandLine.RunAsync(_home, "repository");
        outcome.Fails(2, "'virtbackup repository' needs a command", "virtbackup repository --help");
        Assert.Contains("rebuild-index", outcome.Error);
    }

    [Fact]
    public async Task Programs_are_told_failures_as_json()
    {
        (await CommandLine.RunAsync(_home, "vm", "list", "-o", "json")).FailsAsJson(3, "unreachable", "no operator credentials", "VIRTBACKUP_CREDENTIALS");
        await using var controller = await FakeController.StartAsync();
        var credentials = controller.WriteCredentials(_home);
        (await CommandLine.RunAsync(_home, "backup", "run", "web9", "--credentials", credentials, "-o", "json")).FailsAsJson(5, "not_found", "no virtual machine 'web9'", "virtbackup vm list");
    }

    [Fact]
    public async Task No_credentials() => (await CommandLine.RunAsync(_home, "vm", "list")).Fails(3, "no operator credentials", "VIRTBACKUP_CREDENTIALS");

    [Fact]
    public async Task A_controller_that_does_not_run()
    {
        await using var controller = await FakeController.StartAsync();
        using var closed = new TcpListener(IPAddress.Loopback, 0);
        closed.Start();
        var address = closed.LocalEndpoint.ToString()!;
        closed.Stop();
        var credentials = controller.WriteCredentials(_home, address: address);
        (await CommandLine.RunAsync(_home, "vm", "list", "--credentials", credentials)).Fails(3, $"The controller at {address} cannot be reached", "check that the controller runs");
    }

    [Fact]
    public async Task Names_that_the_controller_does_not_know()
    {
        await using var controller = await FakeController.StartAsync();
        var credentials = controller.WriteCredentials(_home);
        (await CommandLine.RunAsync(_home, "backup", "run", "web9", "--credentials", credentials)).Fails(5, "no virtual machine 'web9'", "virtbackup vm list");
        (await CommandLine.RunAsync(_home, "recovery-point", "show", "ffffff", "--credentials", credentials)).Fails(5, "no recovery point 'ffffff'", "virtbackup recovery-point list");
        (await CommandLine.RunAsync(_home, "agent", "revoke", "nobody", "--credentials", credentials)).Fails(5, "no agent 'nobody'", "virtbackup agent list");
    }

    [Fact]
    public async Task A_controller_of_another_installation_and_a_key_for_everybody()
    {
        await using var controller = await FakeController.StartAsync();
        await using var other = await FakeController.StartAsync();
        var credentials = controller.WriteCredentials(_home, address: other.Address);
        (await CommandLine.RunAsync(_home, "vm", "list", "--credentials", credentials)).Fails(4, "is not trusted", "check the address");
        File.SetUnixFileMode(Path.Combine(credentials, "operator.key"), UnixFileMode.UserRead | UnixFileMode.GroupRead);
        (await CommandLine.RunAsync(_home, "vm", "list", "--credentials", credentials)).Fails(4, "open to other users", "chmod 600");
    }

    [Fact]
    public async Task Completion_is_silent_without_credentials()
    {
        var outcome = (await CommandLine.RunAsync(_home, "complete", "22", "virtbackup backup run ")).Succeeds();
        Assert.Equal(("", ""), (outcome.Output, outcome.Error));
    }

    [Theory]
    [InlineData("bash", "bash")]
    [InlineData("zsh", null)]
    [InlineData("fish", null)]
    public async Task Completion_scripts_call_the_program_back(string shell, string? check)
    {
        var script = (await CommandLine.RunAsync(_home, "completion", shell)).Succeeds().Output;
        Assert.Contains("complete ", script);
        if (check is not null)
        {
            File.WriteAllText(_home.File("script"), script);
            using var syntax = System.Diagnostics.Process.Start(check, ["-n", _home.File("script")]);
            await syntax.WaitForExitAsync(TestContext.Current.CancellationToken);
            Assert.Equal(0, syntax.ExitCode);
        }
    }

    public void Dispose() => _home.Dispose();
}

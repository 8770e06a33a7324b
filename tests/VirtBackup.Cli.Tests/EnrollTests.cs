using VirtBackup.Cli.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Tests;

public sealed class EnrollTests : IAsyncLifetime
{
    private readonly TempFolder _home = new();
    private FakeController _controller = null!;

    private string AgentHome => _home.File("agent");

    public async ValueTask InitializeAsync() => _controller = await FakeController.StartAsync();

    [Fact]
    public async Task A_token_from_standard_input_makes_an_agent_once()
    {
        var token = NewToken();
        var enrolled = (await EnrollAsync(token, "-", "--name", "host-1", "-o", "json")).Succeeds().Json;
        Assert.Equal(("host-1", _controller.Address), ((string?)enrolled["agent"], (string?)enrolled["controller"]));
        Assert.Equal(token, _controller.Enrollment.Last!.JoinToken);
        Assert.Equal(_controller.Address + "\n", File.ReadAllText(Path.Combine(AgentHome, "controller")));
        using (var keys = AgentKeyStore.LoadOrCreate(Path.Combine(AgentHome, "identity"), TimeProvider.System))
        {
            Assert.Equal("host-1", keys.Identity!.Name);
        }
        const UnixFileMode Owner = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        Assert.Equal(Owner | UnixFileMode.UserExecute, File.GetUnixFileMode(AgentHome));
        Assert.Equal(Owner, File.GetUnixFileMode(Path.Combine(AgentHome, "identity", "tls.key")));
        (await EnrollAsync(token, "-", "--name", "host-1")).Fails(4, "enrolled already, as agent 'host-1'", "move");
    }

    [Fact]
    public async Task A_refused_token_leaves_no_identity()
    {
        _controller.Enrollment.Refusal = new FaultException(FaultReason.Denied, "The join token was used already.");
        (await EnrollAsync("", NewToken(), "--name", "host-1")).Fails(4, "used already", "virtbackup agent token");
        Assert.False(File.Exists(Path.Combine(AgentHome, "controller")));
        Assert.False(File.Exists(Path.Combine(AgentHome, "identity", "tls.crt")));
    }

    [Fact]
    public async Task Tokens_that_are_old_foreign_or_no_tokens_are_refused()
    {
        (await EnrollAsync("", NewToken(TimeSpan.FromMinutes(-1)), "--name", "h")).Fails(4, "expired", "virtbackup agent token");
        using var other = CertificateAuthority.Create(SystemEntropy.Instance, TimeProvider.System);
        (await EnrollAsync("", NewToken(authority: other), "--name", "h")).Fails(4, "is not trusted", "check the address");
        (await EnrollAsync("", NewToken(), "--name", "No Name")).Fails(2, "not a name for an agent");
        Assert.NotEqual(0, (await EnrollAsync("", "vbjoin1.nonsense", "--name", "h")).ExitCode);
        Assert.Null(_controller.Enrollment.Last);
    }

    public async ValueTask DisposeAsync()
    {
        await _controller.DisposeAsync();
        _home.Dispose();
    }

    private string NewToken(TimeSpan? lifetime = null, CertificateAuthority? authority = null)
    {
        using var token = JoinToken.Create(
            SystemEntropy.Instance, (authority ?? _controller.Authority).CertificateHash, DateTimeOffset.UtcNow + (lifetime ?? TimeSpan.FromHours(1)));
        return token.ToText();
    }

    private Task<Outcome> EnrollAsync(string input, params string[] arguments) =>
        CommandLine.RunAsync(_home, input + "\n", ["agent", "enroll", .. arguments, "--home", AgentHome, "--controller", _controller.Address]);
}

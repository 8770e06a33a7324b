using System.Text.Json;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Links;

namespace VirtBackup.Testing.Installations;

/// <summary>
/// A real installation in a folder of its own: the built programs, a controller on a loopback port, agents, and commands
/// as an operator gives them. Disposal kills the services and removes the folder. One caller at a time, except for
/// <see cref="RunAsync"/>.
/// </summary>
public sealed class Installation : IAsyncDisposable
{
    private static readonly TimeSpan CommandLimit = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan SettleLimit = TimeSpan.FromMinutes(4);
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(100);
    private readonly List<InstalledAgent> _agents = [];
    private readonly string _temporary;
    private readonly NetworkSite? _site;
    private SiteDoor? _door;

    private Installation(string? repository, string? home, NetworkSite? site)
    {
        _site = site;
        // Agents put sockets below it, and a socket's path is short.
        Folder = Directory.CreateDirectory($"/tmp/vb-{Path.GetRandomFileName()[..6]}").FullName;
        Repository = repository ?? Path.Combine(Folder, "repository");
        Credentials = Path.Combine(Folder, "operator");
        Home = home ?? Path.Combine(Folder, "controller");
        Kit = Path.Combine(Folder, "kit.txt");
        _temporary = Directory.CreateDirectory(Path.Combine(Folder, "tmp")).FullName;
        Port = TakePort();
        Controller = Daemon(Home);
    }

    /// <summary>Runs a command with some environment variables; null: the built program does, in a process of its own.</summary>
    public static Func<IReadOnlyList<string>, IReadOnlyDictionary<string, string?>, CancellationToken, Task<CommandResult>>? CommandLine { get; set; }

    public string Folder { get; }

    public string Repository { get; private set; }

    /// <summary>The controller's folder.</summary>
    public string Home { get; private set; }

    /// <summary>The recovery kit.</summary>
    public string Kit { get; }

    public string Credentials { get; private set; }

    public int Port { get; private set; }

    public string Address => $"127.0.0.1:{Port}";

    public ServiceProcess Controller { get; private set; }

    /// <summary>Sets a controller up, without starting it.</summary>
    /// <param name="repository">An empty folder for the repository; one in <see cref="Folder"/> when not given.</param>
    /// <param name="home">The same for the controller's keys and databases.</param>
    /// <param name="site">
    /// Where its services run; it must outlive them, and have the links at whose addresses the controller is to be reached. Null: on
    /// this machine's own network.
    /// </param>
    public static async Task<Installation> CreateAsync(string? repository = null, string? home = null, NetworkSite? site = null)
    {
        var installation = new Installation(repository, home, site);
        try
        {
            (await installation.RunAsync([.. installation.InitArguments(), "--kit", installation.Kit])).EnsureSuccess();
            return installation;
        }
        catch
        {
            await installation.DisposeAsync();
            throw;
        }
    }

    /// <summary>A running controller, and a running agent called "host" that <paramref name="configure"/> gave its machines.</summary>
    public static async Task<(Installation Installation, InstalledAgent Agent)> StartAsync(
        Action<Installation, InstalledAgent> configure, string? repository = null, string? home = null, NetworkSite? site = null)
    {
        var installation = await CreateAsync(repository, home, site);
        try
        {
            await installation.Controller.StartAsync();
            var agent = await installation.EnrollAsync("host");
            configure(installation, agent);
            await agent.Service.StartAsync();
            return (installation, agent);
        }
        catch
        {
            await installation.DisposeAsync();
            throw;
        }
    }

    /// <summary>The path of a file or folder of the test in <see cref="Folder"/>.</summary>
    public string File(string name) => Path.Combine(Folder, name);

    /// <summary>An agent that is not enrolled.</summary>
    public InstalledAgent AddAgent(string name)
    {
        var agent = new InstalledAgent(name, Folder, _site);
        _agents.Add(agent);
        return agent;
    }

    /// <summary>An enrolled agent, not started.</summary>
    public async Task<InstalledAgent> EnrollAsync(string name)
    {
        var agent = AddAgent(name);
        (await EnrollAsync(agent, await CreateTokenAsync())).EnsureSuccess();
        return agent;
    }

    public Task<CommandResult> EnrollAsync(InstalledAgent agent, string token) =>
        RunAsync("agent", "enroll", token, "--name", agent.Name, "--home", agent.Home, "--controller", Address);

    public async Task<string> CreateTokenAsync(params string[] options) =>
        (await RunAsync(["agent", "token", .. options])).Json.GetProperty("join_token").GetString()!;

    /// <summary>Sets a controller up anew from repository and kit, as on another machine: nothing else of the old one is used.</summary>
    /// <param name="copy">Another place of the repository, which is the repository's from then on; null: the same.</param>
    public async Task RebuildControllerAsync(string? copy = null)
    {
        if (Controller.IsRunning) throw new InvalidOperationException("The old controller is still running.");
        await Controller.DisposeAsync();
        if (_door is not null) await _door.DisposeAsync();
        Repository = copy ?? Repository;
        Home = Path.Combine(Folder, "controller-2");
        Credentials = Path.Combine(Folder, "operator-2");
        Port = TakePort();
        Controller = Daemon(Home);
        (await RunAsync([.. InitArguments(), "--from-kit", Kit])).EnsureSuccess();
    }

    /// <summary>The certificate of the operator.</summary>
    public IssuedCertificate OperatorCertificate => new(Path.Combine(Credentials, "operator.crt"), Home);

    /// <summary>The certificate that an enrolled agent has now.</summary>
    public IssuedCertificate CertificateOf(InstalledAgent agent) => new(Path.Combine(agent.Home, "identity", "tls.crt"), Home);

    /// <summary>A second controller program on the same folder or another; not started.</summary>
    public ServiceProcess Daemon(string home) => new(Programs.Controller, ["--data", home], "ready: listening", _site);

    /// <summary>Runs <c>virtbackup</c> with JSON output.</summary>
    public async Task<CommandResult> RunAsync(params string[] arguments)
    {
        var environment = new Dictionary<string, string?> { ["VIRTBACKUP_CREDENTIALS"] = Credentials, ["NO_COLOR"] = "1", ["TMPDIR"] = _temporary };
        using var limit = new CancellationTokenSource(CommandLimit);
        var result = await (CommandLine ?? StartAsync)([.. arguments, "--output", "json"], environment, limit.Token);
        return result with { Command = string.Join(' ', arguments) };
    }

    private async Task<CommandResult> StartAsync(IReadOnlyList<string> arguments, IReadOnlyDictionary<string, string?> environment, CancellationToken cancellationToken)
    {
        var result = await Proc.RunAsync(Programs.CommandLine, arguments, CommandLimit, Folder, environment, cancellationToken: cancellationToken);
        return new CommandResult(string.Join(' ', arguments), result.ExitCode, result.Stdout, result.Stderr);
    }

    /// <summary>Waits until the controller shows a machine as present, which takes a moment after its agent connected.</summary>
    public Task WaitForMachineAsync(string name, bool running = false) => PollAsync($"machine {name}", async () =>
        (await RunAsync("vm", "list")).Json.GetProperty("virtual_machines").EnumerateArray()
            .Any(machine => machine.GetProperty("name").GetString() == name && machine.GetProperty("present").GetBoolean() && (!running || machine.GetProperty("running").GetBoolean())));

    /// <summary>A backup that must succeed.</summary>
    /// <returns>Its recovery point.</returns>
    public async Task<JsonElement> BackUpAsync(string machine, params string[] options) =>
        (await RunAsync(["backup", "run", machine, .. options])).Json.GetProperty("result").GetProperty("backup");

    /// <summary>Starts a backup and returns when it is in a phase, such as "reading".</summary>
    /// <returns>The job's id.</returns>
    public async Task<string> BeginBackUpAsync(string machine, string phase, params string[] options)
    {
        var job = (await RunAsync(["backup", "run", machine, "--detach", .. options])).Json.GetProperty("job_id").GetString()!;
        await PollAsync($"the phase {phase}", async () =>
        {
            var view = (await RunAsync("job", "show", job)).Json;
            if (view.GetProperty("state").GetString() is "failed" or "cancelled" or "succeeded") throw new LabException($"The job ended early: {view}");
            return view.GetProperty("progress") is { ValueKind: JsonValueKind.Object } progress && progress.GetProperty("phase").GetString() == phase;
        });
        return job;
    }

    /// <summary>Waits for a job's end.</summary>
    public Task<CommandResult> FollowAsync(string job) => RunAsync("job", "show", job, "--watch");

    /// <summary>Restores without starting the machine.</summary>
    /// <returns>The paths of the restored images, by disk name.</returns>
    public async Task<IReadOnlyDictionary<string, string>> RestoreDisksAsync(string point, string folder, params string[] options)
    {
        var result = (await RunAsync(["restore", "run", point, "--folder", File(folder), "--name", folder, "--no-start", .. options])).Json;
        return result.GetProperty("result").GetProperty("restore").GetProperty("details").EnumerateArray()
            .Select(detail => (Name: detail.GetProperty("name").GetString()!, Value: detail.GetProperty("value").GetString()!))
            .Where(detail => detail.Name.StartsWith("disk ", StringComparison.Ordinal))
            .ToDictionary(detail => detail.Name["disk ".Length..], detail => detail.Value, StringComparer.Ordinal);
    }

    /// <summary>The ids of the points that the controller lists, newest first.</summary>
    public async Task<IReadOnlyList<string>> ListPointsAsync(params string[] options) =>
        [.. (await RunAsync(["recovery-point", "list", .. options])).Json.GetProperty("recovery_points").EnumerateArray().Select(point => point.GetProperty("point_id").GetString()!)];

    /// <summary>Asks again and again until it is so.</summary>
    /// <exception cref="TimeoutException">It was not within a minute.</exception>
    public static async Task PollAsync(string what, Func<Task<bool>> isSo)
    {
        using var limit = new CancellationTokenSource(SettleLimit);
        while (!await isSo())
        {
            if (limit.IsCancellationRequested) throw new TimeoutException($"{what} did not come within {SettleLimit.TotalSeconds:0} s.");
            await Task.Delay(PollInterval, CancellationToken.None);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var agent in _agents) await agent.DisposeAsync();
        await Controller.DisposeAsync();
        if (_door is not null) await _door.DisposeAsync();
        Directory.Delete(Folder, recursive: true);
    }

    private int TakePort()
    {
        var port = LabPorts.Take();
        _door = _site is null ? null : new SiteDoor(_site, port);
        return port;
    }

    private string[] InitArguments() =>
    [
        "controller", "init", "--data", Home, "--repository", Repository, "--listen", _site is null ? Address : $"0.0.0.0:{Port}",
        .. new[] { "127.0.0.1" }.Concat(_site?.Addresses.Select(static address => $"{address}") ?? []).SelectMany(static name => new[] { "--server-name", name }),
        "--operator-credentials", Credentials,
    ];
}

using VirtBackup.Testing.Installations;

namespace VirtBackup.Proofs.Migration;

/// <summary>A controller and two agents, all real programs, and a machine that goes from one to the other.</summary>
internal sealed class Hosts : IAsyncDisposable
{
    private readonly Dictionary<string, InstalledAgent> _agents = [];

    private Hosts(Installation installation, MovingMachine machine) => (Installation, Machine) = (installation, machine);

    public Installation Installation { get; }

    public MovingMachine Machine { get; }

    /// <summary>Where the machine is.</summary>
    public string Place { get; set; } = "host";

    public string Other => Place == "host" ? "other" : "host";

    public InstalledAgent this[string name] => _agents[name];

    public static async Task<Hosts> StartAsync(int diskBytes, Random random, CancellationToken cancellationToken)
    {
        var machine = await MovingMachine.StartAsync(diskBytes, random, cancellationToken);
        Installation? installation = null;
        try
        {
            (installation, var host) = await Installation.StartAsync((_, agent) => agent.Append($"machines:\n  - name: {MovingMachine.Name}\n    uuid: {machine.Uuid}\n    qmp: {machine.QmpPath}\n"));
            var hosts = new Hosts(installation, machine);
            hosts._agents.Add(host.Name, host);
            var other = await installation.EnrollAsync("other");
            hosts._agents.Add(other.Name, other);
            await other.Service.StartAsync();
            await installation.WaitForMachineAsync(MovingMachine.Name);
            return hosts;
        }
        catch
        {
            await machine.DisposeAsync();
            if (installation is not null) await installation.DisposeAsync();
            throw;
        }
    }

    /// <summary>Begins a migration to the other host.</summary>
    /// <returns>Its id, and the folder that the machine goes to.</returns>
    public async Task<(string Migration, string Folder)> BeginAsync(int number, bool cold, params string[] more)
    {
        var folder = Installation.File($"m{number}");
        List<string> command = ["migrate", "run", MovingMachine.Name, "--to-host", Other, "--folder", folder, "--force-stop", "--stop-timeout", "1", "--detach", .. more];
        if (cold) command.Add("--cold");
        var job = (await Installation.RunAsync([.. command])).Json;
        return (job.GetProperty("job_id").GetString()!, folder);
    }

    public async Task<System.Text.Json.JsonElement> ShowAsync(string migration) => (await Installation.RunAsync("migrate", "show", migration)).Json;

    public async ValueTask DisposeAsync()
    {
        await Machine.DisposeAsync();
        await Installation.DisposeAsync();
    }
}

using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Links;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.Sites;

/// <summary>A site with a network, a controller, an agent and machines of its own. One caller at a time, but for what asks only.</summary>
internal sealed class PeerSite : IAsyncDisposable
{
    private const int UnreachableExitCode = 3;
    private int _restores;

    private PeerSite(NetworkSite network, Installation installation, InstalledAgent agent, IReadOnlyList<SourceMachine> machines)
    {
        (Network, Installation, Agent, Machines) = (network, installation, agent, machines);
    }

    public string Name => Network.Name;

    public NetworkSite Network { get; }

    public Installation Installation { get; }

    public InstalledAgent Agent { get; }

    public IReadOnlyList<SourceMachine> Machines { get; }

    /// <summary>Starts controller and agent in a site that has its links already.</summary>
    /// <param name="configure">Gives the agent its machines, and tells those that are images.</param>
    public static async Task<PeerSite> StartAsync(NetworkSite network, Func<Installation, InstalledAgent, IReadOnlyList<SourceMachine>> configure)
    {
        IReadOnlyList<SourceMachine> machines = [];
        var (installation, agent) = await Installation.StartAsync((installation, agent) =>
        {
            machines = configure(installation, agent);
            foreach (var machine in machines) agent.Add(machine.Name, machine.Uuid, machine.Disk);
        }, site: network);
        try
        {
            foreach (var machine in machines) await installation.WaitForMachineAsync(machine.Name);
            return new PeerSite(network, installation, agent, machines);
        }
        catch
        {
            await installation.DisposeAsync();
            throw;
        }
    }

    /// <summary>Bytes of all objects of its repository.</summary>
    public long MeasureRepository() => new DirectoryInfo(Installation.Repository).EnumerateFiles("*", SearchOption.AllDirectories).Sum(static file => file.Length);

    /// <returns>The recovery points that it lists, newest first; null: it does not answer.</returns>
    public async Task<IReadOnlyList<string>?> TryListAsync()
    {
        var result = await Installation.RunAsync("recovery-point", "list");
        if (result.ExitCode == UnreachableExitCode) return null;
        return [.. result.Json.GetProperty("recovery_points").EnumerateArray().Select(static point => point.GetProperty("point_id").GetString()!)];
    }

    /// <summary>Has all that the point needs read and checked, without keys.</summary>
    /// <returns>False: the controller does not answer, or ended in the middle.</returns>
    /// <exception cref="RefutedException">The point is not whole.</exception>
    public async Task<bool> TryVerifyAsync(string point)
    {
        var life = Installation.Controller.IsRunning ? Installation.Controller.Pid : 0;
        var result = await Installation.RunAsync("recovery-point", "verify", point);
        if (result.ExitCode == 0) return true;
        if (result.ExitCode == UnreachableExitCode || !Installation.Controller.IsRunning || Installation.Controller.Pid != life) return false;
        throw new RefutedException($"{Name} lists the recovery point {point}, which is not whole there: {result.Stderr}{result.Stdout}");
    }

    /// <summary>Restores a point with this site's agent, and compares what came with what the machine held.</summary>
    /// <param name="spoil">Done to the restored disk before it is compared.</param>
    public async Task RequireRestorableAsync(SourceMachine machine, string point, Action<string>? spoil = null)
    {
        var folder = $"r{_restores++}";
        IReadOnlyDictionary<string, string> disks;
        try
        {
            disks = await Installation.RestoreDisksAsync(point, folder, "--format", "raw", "--agent", Agent.Name);
        }
        catch (Exception failed) when (failed is not RefutedException and not OperationCanceledException)
        {
            throw new RefutedException($"{Name} lists the recovery point {point} of {machine.Name}, and cannot restore it: {failed.Message}");
        }
        spoil?.Invoke(disks.Values.Single());
        machine.Require(point, disks.Values.Single(), Name);
        Directory.Delete(Installation.File(folder), recursive: true);
    }

    /// <summary>What a command that must succeed printed.</summary>
    public async Task<JsonElement> RunAsync(params string[] command) => (await Installation.RunAsync(command)).Json;

    public async ValueTask DisposeAsync() => await Installation.DisposeAsync();
}

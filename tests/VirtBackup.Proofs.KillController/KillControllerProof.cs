using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.KillController;

/// <summary>
/// However often the controller is killed while it backs up, collects and scrubs at once, no recovery point that was
/// acknowledged is lost, none is half deleted, and the index counts what an audit counts. A trial is a kill.
/// </summary>
internal sealed class KillControllerProof : IProof
{
    private KillRun? _running;

    public string Name => "kill-controller";

    public IReadOnlyList<(string Name, string What)> Sabotages => KillController.Sabotages.All;

    public (int Long, int Short) TrialsMax => (1000, 5);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(12);

    public string Figures => _running?.Figures ?? "";

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        StartupHook.Install();
        using var folder = new LabDirectory();
        Machine[] machines = [new("one", folder.File("one.raw")), new("two", folder.File("two.raw"))];
        foreach (var machine in machines)
        {
            machine.Create(options.RandomOf(-1, machine.Name[0]));
        }
        var (installation, agent) = await Installation.StartAsync((_, agent) =>
        {
            foreach (var machine in machines)
            {
                agent.Add(machine.Name, machine.Uuid, new InstalledImage(machine.Image, LabDiskFormat.Raw, "disk"));
            }
        });
        await using var _ = installation;
        await installation.WaitForMachineAsync(machines[^1].Name);
        var run = _running = new KillRun(installation, machines, options);
        try
        {
            await run.BeginAsync();
            foreach (var trial in trials)
            {
                cancellationToken.ThrowIfCancellationRequested();
                await run.KillAsync(trial);
            }
            await run.RequireWholeAsync();
        }
        catch
        {
            Console.WriteLine($"--- agent\n{agent.Service.RecentLog}--- controller\n{installation.Controller.RecentLog}---");
            throw;
        }
    }
}

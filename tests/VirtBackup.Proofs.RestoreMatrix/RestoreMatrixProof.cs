using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.RestoreMatrix;

/// <summary>
/// Every disk of a restored recovery point holds, byte for byte, what the machine's disk held at the cut, whatever befell the
/// machine since the point before; and each is read in the way that the matrix states.
/// </summary>
internal sealed class RestoreMatrixProof(IReadOnlyList<string> images) : IProof
{
    private readonly Tally tally = new();
    private string missing = "";

    public string Name => "restore-matrix";

    public IReadOnlyList<(string Name, string What)> Sabotages => RestoreMatrix.Sabotages.All;

    public (int Long, int Short) TrialsMax => (Enum.GetValues<Scenario>().Length, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(10);

    public string OwnOptions => string.Concat(images.Select(image => $" --image {image}"));

    public string Figures => $"{tally}{(missing.Length > 0 ? $" (the LVM part is {missing})" : "")}";

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        await using var installation = await Installation.CreateAsync();
        await installation.Controller.StartAsync();
        var agent = await installation.EnrollAsync("host");
        var template = installation.File("template.raw");
        missing = await FilesystemDisk.MakeAsync(template);
        try
        {
            foreach (var trial in trials)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var scenario = ScenarioOf(options.Seed, trial);
                Console.WriteLine($"trial {trial}: {scenario} on qcow2, raw and a block device");
                await new MatrixRun(installation, agent, options, template, images, tally).RunAsync(trial, scenario, cancellationToken);
            }
        }
        catch
        {
            Console.WriteLine($"--- agent\n{agent.Service.Log}--- controller\n{installation.Controller.Log}---");
            throw;
        }
    }

    /// <summary>The trials of a seed go through all scenarios in an order of its own, again and again.</summary>
    private static Scenario ScenarioOf(ulong seed, int trial)
    {
        var scenarios = Enum.GetValues<Scenario>();
        new Random(ProofOptions.HashCode(seed, trial / scenarios.Length, 0)).Shuffle(scenarios);
        return scenarios[trial % scenarios.Length];
    }
}

using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
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

    public (int Long, int Short) TrialsMax => (Rows.Length, 1);

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
        LabLibvirt? libvirt = null;
        try
        {
            foreach (var trial in trials)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var row = RowOf(options.Seed, trial);
                Console.WriteLine($"trial {trial}: {row} on qcow2, raw and a block device");
                if (row.Platform == Platform.Libvirt && libvirt is null)
                {
                    libvirt = await LabLibvirt.StartAsync();
                    agent.Add(libvirt, installation.File("f-libvirt"));
                }
                await new MatrixRun(installation, agent, options, template, tally).RunAsync(trial, row, async name => row.Platform == Platform.Qmp
                    ? await QmpMachine.BootAsync(name, template, images, cancellationToken) : await LibvirtMachine.BootAsync(libvirt!, name, template, images), cancellationToken);
            }
        }
        catch
        {
            Console.WriteLine($"--- agent\n{agent.Service.Log}--- controller\n{installation.Controller.Log}---");
            throw;
        }
        finally
        {
            if (libvirt is not null) await libvirt.DisposeAsync();
        }
    }

    private static Cell[] Rows => [.. from platform in Enum.GetValues<Platform>() from scenario in Enum.GetValues<Scenario>() select new Cell(platform, scenario)];

    /// <summary>The trials of a seed go through all rows in an order of its own, again and again.</summary>
    private static Cell RowOf(ulong seed, int trial)
    {
        var rows = Rows;
        new Random(ProofOptions.HashCode(seed, trial / rows.Length, 0)).Shuffle(rows);
        return rows[trial % rows.Length];
    }
}

using System.Globalization;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ObjectStore;

/// <summary>A repository behind Ceph's S3 gateway is as good as one in a folder: as fast as folder and bare puts together, cheap in requests, and never wrong.</summary>
internal sealed class ObjectStoreProof(string? image) : IProof
{
    private const long LongImageBytes = 4L << 30;
    private readonly List<string> _figures = [];
    private int _faults;
    private int _survived;

    public string Name => "object-store";

    public IReadOnlyList<(string Name, string What)> Sabotages =>
    [
        ("swallowed-put", "one answer says that a pack is stored, and it is not"),
        ("lost-object", "one object of the repository is deleted behind its back"),
    ];

    public (int Long, int Short) TrialsMax => (40, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(20);

    public string OwnOptions => image is null ? "" : $" --image {image}";

    public string Figures => string.Join(' ', [.. _figures, string.Create(CultureInfo.InvariantCulture, $"faults={_faults} backups-through={_survived}")]);

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        // In the long form one of three storage daemons dies at the end; the short one has Azurite, and with every fourth seed Ceph, which takes longer to start than all the rest.
        await using var server = await (options switch
        {
            { Short: false } => LabObjectServer.StartCephAsync(osds: 3, onDisk: true),
            _ when options.Seed % 4 == 3 => LabObjectServer.StartCephAsync(),
            _ => LabObjectServer.StartAzuriteAsync(),
        });
        server.UseCredentials();
        using var folder = new LabDirectory();
        if (options.Sabotage is null && !options.Short)
        {
            var disk = image ?? await TestImage.WriteAsync(folder.File("image.raw"), LongImageBytes, options.RandomOf(options.StartTrial, 0));
            _figures.Add(await SpeedRun.RunAsync(server, disk, cancellationToken));
            Console.WriteLine(_figures[^1]);
        }
        foreach (var trial in trials)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var run = await FaultRun.RunAsync(server, options, trial);
            _faults += run.Faults;
            _survived += run.Backups;
            if (options.Short)
            {
                _figures.Add($"store={(server.IsS3 ? "ceph" : "azurite")} requests={run.Requests}");
            }
        }
        if (!options.Short && options.Sabotage is null)
        {
            _figures.Add(await StorageLossRun.RunAsync(server, options));
        }
    }
}

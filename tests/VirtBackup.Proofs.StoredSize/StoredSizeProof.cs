using System.Globalization;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.StoredSize;

/// <summary>
/// A machine, its second day, a clone of it, and machines that were installed separately are backed up one after the other,
/// by the programs as they ship and by restic: what VirtBackup stores is at most 5 % more. What it restores is compared.
/// </summary>
internal sealed class StoredSizeProof(IReadOnlyList<string> images) : IProof
{
    private const double Limit = 1.05;

    /// <summary>With so few chunks, where the two programs' own random keys make them cut moves the ratio by some percent from run to run.</summary>
    private const double ShortSequenceLimit = 1.15;
    private const string OneForEach = "one-for-each";
    private const string Encrypted = "encrypted-first";

    private readonly List<string> _figures = [];

    public string Name => "stored-size";

    public IReadOnlyList<(string Name, string What)> Sabotages { get; } =
    [
        (OneForEach, "gives each machine a repository of its own, so that they share nothing"),
        (Encrypted, "encrypts the disks before VirtBackup reads them, so that nothing compresses"),
    ];

    public (int Long, int Short) TrialsMax => (1, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(10);

    public string OwnOptions => string.Concat(images.Select(static image => $" --image {image}"));

    public string Figures => string.Join(' ', _figures);

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        foreach (var trial in trials)
        {
            var folder = Directory.CreateDirectory(Path.Combine(options.Work, $"vb-size-{Path.GetRandomFileName()[..6]}")).FullName;
            try
            {
                await RunAsync(options, trial, folder, cancellationToken);
            }
            finally
            {
                Directory.Delete(folder, recursive: true);
            }
        }
    }

    private async Task RunAsync(ProofOptions options, int trial, string folder, CancellationToken cancellationToken)
    {
        var random = options.RandomOf(trial, 1);
        var steps = images.Count > 0
            ? await GivenMachines.PrepareAsync(images, folder, random, cancellationToken)
            : await InstalledMachines.PrepareAsync(folder, random, options.Short ? 64L << 20 : 1200L << 20, cancellationToken);
        Console.WriteLine($"{"MiB stored after",-22} {string.Join("  ", steps.Select(static step => $"{step.Name,14}"))}");
        var restic = await Restic.RunAsync(steps, folder, cancellationToken);
        Print("restic", restic, restic);
        var seen = options.Sabotage == Encrypted ? await EncryptAsync(steps, folder) : steps;
        var own = await VirtBackupRun.RunAsync(seen, chunks: null, isOneForEach: options.Sabotage == OneForEach, isCompared: true, cancellationToken);
        Print("virtbackup (defaults)", own, restic);
        if (!options.Short && options.Sabotage is null)
        {
            foreach (var chunks in new[] { "fixed-64K", "fixed-256K", "fixed-1M", "content-64K", "content-128K", "content-256K" })
            {
                Print($"chunks: {chunks}", await VirtBackupRun.RunAsync(steps, chunks, isOneForEach: false, isCompared: false, cancellationToken), restic);
            }
        }
        var ratio = (double)own[^1] / restic[^1];
        _figures.Add(string.Create(CultureInfo.InvariantCulture, $"stored_mib={own[^1] / 1048576.0:0.0} restic_mib={restic[^1] / 1048576.0:0.0} ratio={ratio:0.000}"));
        var limit = options.Short ? ShortSequenceLimit : Limit;
        if (ratio > limit)
        {
            throw new RefutedException(string.Create(CultureInfo.InvariantCulture, $"{ratio:0.000} times what restic stores; at most {limit} are allowed")) { Trial = trial };
        }
    }

    private static void Print(string what, IReadOnlyList<long> stored, IReadOnlyList<long> restic) =>
        Console.WriteLine($"{what,-22} {string.Join("  ", stored.Select((bytes, i) => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1048576.0,8:0.0} {(double)bytes / restic[i],5:0.000}")))}");

    private static async Task<IReadOnlyList<Step>> EncryptAsync(IReadOnlyList<Step> steps, string folder)
    {
        var encrypted = new List<Step>();
        foreach (var step in steps)
        {
            var path = Path.Combine(folder, $"encrypted-{encrypted.Count}.raw");
            (await Proc.ShellAsync(
                $"openssl enc -aes-128-ctr -nosalt -pass pass:sabotage -pbkdf2 -iter 1 -in '{step.Image}' -out '{path}'", TimeSpan.FromMinutes(10))).EnsureSuccess();
            encrypted.Add(step with { Image = path });
        }
        return encrypted;
    }
}

/// <summary>One backup of the sequence.</summary>
/// <param name="Name">What it is, for people.</param>
/// <param name="Machine">Number of the machine.</param>
/// <param name="Image">Raw image of its disk at that time.</param>
internal sealed record Step(string Name, int Machine, string Image);

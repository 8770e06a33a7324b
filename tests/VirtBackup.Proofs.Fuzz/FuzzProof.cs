using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Fuzz;

/// <summary>
/// No bytes from outside make a parser do anything but accept one spelling or refuse with a sentence, in bounded time and
/// memory.
/// </summary>
/// <param name="corpus">A folder for each target.</param>
/// <param name="keep">Where inputs go that were answered in a way not seen before; empty: nowhere.</param>
internal sealed class FuzzProof(string corpus, string keep) : IProof
{
    private const int InputsPerTrial = 2000;
    private const string ReadsBeyond = "reads-beyond";
    private const string BelievesLengths = "believes-lengths";

    private IReadOnlyList<FuzzRun> _runs = [];

    public string Name => "fuzz-parsers";

    public IReadOnlyList<(string Name, string What)> Sabotages { get; } =
    [
        (ReadsBeyond, "the parser of map nodes reads a byte behind the end of short ones"),
        (BelievesLengths, "the parser of manifests makes room for as many bytes as the input claims to have"),
    ];

    /// <summary>A trial is 2,000 inputs for each parser.</summary>
    public (int Long, int Short) TrialsMax => (2000, 10);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(6);

    public string OwnOptions => keep.Length == 0 ? "" : $" --keep {keep}";

    public string Figures => $"parsers={_runs.Count} inputs={_runs.Sum(static run => run.Inputs)} accepted={_runs.Sum(static run => run.Accepted)} answers={_runs.Sum(static run => run.Answers)}";

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        _runs = [.. Targets.All.Select(target => new FuzzRun(Planted(target, options.Sabotage), corpus))];
        foreach (var trial in trials)
        {
            for (var i = 0; i < _runs.Count; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                await KeepAsync(_runs[i].Name, _runs[i].Run(options.RandomOf(trial, i), InputsPerTrial), cancellationToken);
            }
        }
        Console.WriteLine($"{"parser",-20} {"inputs",10} {"accepted",10} {"answers",8}");
        foreach (var run in _runs)
        {
            Console.WriteLine($"{run.Name,-20} {run.Inputs,10} {run.Accepted,10} {run.Answers,8}");
        }
    }

    private static Target Planted(Target target, string? sabotage) => (sabotage, target.Name) switch
    {
        (ReadsBeyond, "map-leaf") => target with { Parse = bytes => bytes.Length < 40 ? [bytes[bytes.Length]] : target.Parse(bytes) },
        (BelievesLengths, "manifest") => target with
        {
            Parse = bytes =>
            {
                var claimed = bytes.Length < 16 ? 0 : BitConverter.ToUInt32(bytes, 12) % (1 << 28);
                return new byte[claimed].Length >= 0 ? target.Parse(bytes) : null;
            },
        },
        _ => target,
    };

    private async Task KeepAsync(string target, List<byte[]> found, CancellationToken cancellationToken)
    {
        if (keep.Length == 0)
        {
            return;
        }
        foreach (var input in found)
        {
            var folder = Directory.CreateDirectory(Path.Combine(keep, target)).FullName;
            await File.WriteAllBytesAsync(Path.Combine(folder, Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(input))[..16]), input, cancellationToken);
        }
    }
}

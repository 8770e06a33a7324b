using System.Globalization;
using System.Security.Cryptography;

namespace VirtBackup.Testing.Proofs;

/// <summary>What a proof was asked to do.</summary>
/// <param name="Seed">Decides everything in every trial.</param>
/// <param name="StartTrial">Number of the first trial.</param>
/// <param name="Trials">How many; null: the proof's default.</param>
/// <param name="Short">At most a minute or so.</param>
/// <param name="Sabotage">A planted fault that must make the proof fail; <c>list</c> prints their names.</param>
/// <param name="Work">Where large files go.</param>
public sealed record ProofOptions(ulong Seed, int StartTrial, int? Trials, bool Short, string? Sabotage, string Work)
{
    public const string Usage = "[--seed N] [--trials N] [--start-trial I] [--short] [--work DIR] [--sabotage NAME|list]";

    // Building takes some of the 45 minutes that a proof may last.
    private static readonly TimeSpan LongLimit = TimeSpan.FromMinutes(35);

    /// <exception cref="FormatException">An option is unknown or has no good value.</exception>
    /// <exception cref="OverflowException">A number is too large.</exception>
    public static ProofOptions Parse(ReadOnlySpan<string> arguments)
    {
        var options = new ProofOptions(BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(sizeof(ulong))), 0, null, false, null, Path.GetTempPath());
        for (var i = 0; i < arguments.Length; i++)
        {
            var name = arguments[i];
            if (name == "--short")
            {
                options = options with { Short = true };
                continue;
            }
            if (++i == arguments.Length) throw new FormatException($"The option {name} is not known or lacks its value.");
            var value = arguments[i];
            options = name switch
            {
                "--seed" => options with { Seed = ulong.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture) },
                "--trials" => options with { Trials = int.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture) },
                "--start-trial" => options with { StartTrial = int.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture) },
                "--work" => options with { Work = Path.GetFullPath(value) },
                "--sabotage" => options with { Sabotage = value },
                _ => throw new FormatException($"The option {name} is not known."),
            };
        }
        return options.Trials == 0 ? throw new FormatException("No trial proves nothing: --trials must be at least 1.") : options;
    }

    /// <summary>Chance for one purpose of one trial, the same at every run.</summary>
    public Random RandomOf(int trial, int purpose) => new(HashCode(Seed, trial, purpose));

    /// <summary>A number in [0, 2^31), the same in every process.</summary>
    public static int HashCode(ulong seed, int trial, int purpose)
    {
        Span<byte> input = stackalloc byte[16];
        BitConverter.TryWriteBytes(input, seed);
        BitConverter.TryWriteBytes(input[8..], trial);
        BitConverter.TryWriteBytes(input[12..], purpose);
        return BitConverter.ToInt32(SHA256.HashData(input)) & int.MaxValue;
    }

    /// <summary>Room in <see cref="Work"/>, bytes.</summary>
    /// <exception cref="RefutedException">The folder is not there, or has less room than <paramref name="needed"/> bytes.</exception>
    public long RequireSpace(long needed)
    {
        if (!Directory.Exists(Work)) throw new RefutedException($"the folder {Work} does not exist; choose another with --work");
        var free = new DriveInfo(Work).AvailableFreeSpace;
        return free >= needed
            ? free : throw new RefutedException($"{needed >> 20} MiB are needed in {Work}, only {free >> 20} MiB are free: choose another folder with --work");
    }

    /// <summary>Whether the time is over; never, when the number of trials was given.</summary>
    public bool IsLate(TimeSpan elapsed, TimeSpan shortLimit) => Trials is null && elapsed >= (Short ? shortLimit : LongLimit);
}

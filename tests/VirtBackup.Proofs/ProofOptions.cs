using System.Globalization;
using System.Security.Cryptography;

namespace VirtBackup.Proofs;

/// <summary>What a proof was asked to do.</summary>
/// <param name="Seed">Decides everything in every trial.</param>
/// <param name="FirstTrial">Number of the first trial.</param>
/// <param name="Trials">How many; null: the proof's default.</param>
/// <param name="Short">At most a minute.</param>
/// <param name="Sabotage">A planted defect that must make the proof fail; <c>list</c> prints their names.</param>
internal sealed record ProofOptions(ulong Seed, int FirstTrial, int? Trials, bool Short, string? Sabotage)
{
    public const string Usage = "usage: PROOF [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]";

    /// <exception cref="FormatException">Not understood.</exception>
    public static ProofOptions Parse(ReadOnlySpan<string> arguments)
    {
        var options = new ProofOptions(BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(sizeof(ulong))), 0, null, false, null);
        for (var i = 0; i < arguments.Length; i++)
        {
            var name = arguments[i];
            if (name == "--short")
            {
                options = options with { Short = true };
                continue;
            }
            if (++i == arguments.Length)
            {
                throw new FormatException($"The option {name} is not known or lacks its value.");
            }
            var value = arguments[i];
            options = name switch
            {
                "--seed" => options with { Seed = ulong.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture) },
                "--trials" => options with { Trials = int.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture) },
                "--start-trial" => options with { FirstTrial = int.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture) },
                "--sabotage" => options with { Sabotage = value },
                _ => throw new FormatException($"The option {name} is not known."),
            };
        }
        return options;
    }

    /// <summary>Chance for one purpose of one trial, the same at every run.</summary>
    public Random RandomOf(int trial, int purpose) => new(HashCode(Seed, trial, purpose));

    /// <summary>A number in (0, 2^31), the same in every process.</summary>
    public static int HashCode(ulong seed, int trial, int purpose)
    {
        Span<byte> input = stackalloc byte[16];
        BitConverter.TryWriteBytes(input, seed);
        BitConverter.TryWriteBytes(input[8..], trial);
        BitConverter.TryWriteBytes(input[12..], purpose);
        return BitConverter.ToInt32(SHA256.HashData(input)) & int.MaxValue;
    }
}

/// <summary>The system did what it must never do.</summary>
internal sealed class ViolationException(string message) : Exception(message);

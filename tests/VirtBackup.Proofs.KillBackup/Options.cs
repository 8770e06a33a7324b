using System.Globalization;
using System.Security.Cryptography;

namespace VirtBackup.Proofs.KillBackup;

/// <summary>What a run of the proof is asked to do.</summary>
/// <param name="Seed">Decides every choice of every trial.</param>
/// <param name="StartTrial">Number of the first trial.</param>
/// <param name="Trials">How many; null: as many as the time allows.</param>
/// <param name="Short">At most a minute.</param>
/// <param name="Sabotage">A planted fault that must make the proof fail; <c>list</c> prints their names.</param>
internal sealed record Options(ulong Seed, int StartTrial, int? Trials, bool Short, string? Sabotage)
{
    public const string Usage = "usage: kill-backup [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]";

    private const int TrialsMax = 100;
    private const int TrialsShortMax = 2;

    /// <summary>No new trial begins later, unless their number was given.</summary>
    private TimeSpan Limit => Short ? TimeSpan.FromSeconds(25) : TimeSpan.FromMinutes(35);

    /// <exception cref="FormatException">An option is unknown or has no good value.</exception>
    /// <exception cref="OverflowException">A number is too large.</exception>
    public static Options Parse(ReadOnlySpan<string> arguments)
    {
        var options = new Options(BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(sizeof(ulong))), 0, null, false, null);
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
                "--start-trial" => options with { StartTrial = int.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture) },
                "--sabotage" => options with { Sabotage = value },
                _ => throw new FormatException($"The option {name} is not known."),
            };
        }
        return options.Trials == 0 ? throw new FormatException("No trial proves nothing: --trials must be at least 1.") : options;
    }

    /// <summary>Whether another trial is due after <paramref name="done"/> of them, <paramref name="elapsed"/> after the start.</summary>
    public bool WantsAnother(int done, TimeSpan elapsed) =>
        Trials is { } trials ? done < trials : done == 0 || (done < (Short ? TrialsShortMax : TrialsMax) && elapsed < Limit);
}

using System.Globalization;
using System.Security.Cryptography;

namespace VirtBackup.Proofs.KillBackup;

/// <summary>What a run of the proof is asked to do.</summary>
internal sealed record Options(ulong Seed, int Trials, int StartTrial, string? Sabotage)
{
    private const int TrialsDefault = 40;
    private const int TrialsShort = 1;

    /// <exception cref="FormatException">An option is unknown or has no good value.</exception>
    public static Options Parse(string[] arguments)
    {
        var options = new Options(BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(8)), TrialsDefault, 0, null);
        for (var i = 0; i < arguments.Length; i++)
        {
            string Value() => ++i < arguments.Length ? arguments[i] : throw new FormatException($"{arguments[i - 1]} needs a value.");
            options = arguments[i] switch
            {
                "--seed" => options with { Seed = ulong.Parse(Value(), CultureInfo.InvariantCulture) },
                "--trials" => options with { Trials = int.Parse(Value(), CultureInfo.InvariantCulture) },
                "--start-trial" => options with { StartTrial = int.Parse(Value(), CultureInfo.InvariantCulture) },
                "--short" => options with { Trials = TrialsShort },
                "--sabotage" => options with { Sabotage = Value() },
                var unknown => throw new FormatException($"Unknown option '{unknown}'."),
            };
        }
        return options;
    }
}

/// <summary>Choices of one trial, from the seed and the trial's number alone (SplitMix64).</summary>
internal sealed class Chance(ulong seed, int trial)
{
    private ulong _state = seed + (ulong)trial * 0xD1342543DE82EF95;

    /// <summary>A number from 0 to <paramref name="bound"/> − 1.</summary>
    public int Below(int bound)
    {
        var z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return (int)((z ^ (z >> 31)) % (ulong)bound);
    }
}

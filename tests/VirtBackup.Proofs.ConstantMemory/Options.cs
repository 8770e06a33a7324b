using System.Globalization;
using System.Security.Cryptography;

namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>What a run of the proof is asked to do.</summary>
/// <param name="Seed">Decides, with a trial's number, where the disks hold content and what.</param>
/// <param name="Short">Smaller disks: at most 90 seconds.</param>
/// <param name="Work">Where images, repositories and restored images go.</param>
internal sealed record Options(ulong Seed, int Trials, int StartTrial, bool Short, string Work, string? Sabotage)
{
    /// <exception cref="FormatException">An option is unknown or has no good value.</exception>
    public static Options Parse(string[] arguments)
    {
        var options = new Options(BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(8)), 1, 0, false, Path.GetTempPath(), null);
        for (var i = 0; i < arguments.Length; i++)
        {
            string Value() => ++i < arguments.Length ? arguments[i] : throw new FormatException($"{arguments[i - 1]} needs a value.");
            options = arguments[i] switch
            {
                "--seed" => options with { Seed = ulong.Parse(Value(), NumberStyles.None, CultureInfo.InvariantCulture) },
                "--trials" => options with { Trials = int.Parse(Value(), NumberStyles.None, CultureInfo.InvariantCulture) },
                "--start-trial" => options with { StartTrial = int.Parse(Value(), NumberStyles.None, CultureInfo.InvariantCulture) },
                "--short" => options with { Short = true },
                "--work" => options with { Work = Path.GetFullPath(Value()) },
                "--sabotage" => options with { Sabotage = Value() },
                var unknown => throw new FormatException($"Unknown option '{unknown}'."),
            };
        }
        if (options.Trials < 1) throw new FormatException("--trials must be 1 or more.");
        return options;
    }
}

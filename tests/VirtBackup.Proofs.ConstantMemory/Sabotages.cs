using System.Globalization;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>Faults planted around the product, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string HoardingAgent = "hoarding-agent";
    public const string HoardingController = "hoarding-controller";
    public const string SkipContent = "skip-content";
    public const string LosePeak = "lose-peak";

    // What the big disk's three works make a process hoard, about; far from what both disks need alike.
    private const long HoardBytes = 128L << 20;

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (HoardingAgent, "makes the agent keep memory in proportion to the bytes that it reads and writes"),
        (HoardingController, "makes the controller keep memory in proportion to the bytes that it reads and writes"),
        (SkipContent, "leaves out half of the big disk's content, so that less is moved than is claimed"),
        (LosePeak, "starts the agent anew after a measured work and before its peak is read"),
    ];

    /// <summary>Makes every process that this one starts load the hoarder, which wakes up in the chosen program.</summary>
    public static void PlantHoarder(ProofOptions options)
    {
        if (options.Sabotage is not (HoardingAgent or HoardingController)) return;
        var moved = 2 * DiskSize.Of(options.Short).Big.ContentBytes;
        Environment.SetEnvironmentVariable(StartupHook.ProgramVariable, options.Sabotage == HoardingAgent ? "virtbackup-agent" : "virtbackupd");
        Environment.SetEnvironmentVariable(StartupHook.ShareVariable, (moved / HoardBytes).ToString(CultureInfo.InvariantCulture));
        Environment.SetEnvironmentVariable("DOTNET_STARTUP_HOOKS", typeof(StartupHook).Assembly.Location);
    }
}

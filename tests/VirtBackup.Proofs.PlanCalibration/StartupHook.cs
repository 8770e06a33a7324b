using System.Runtime.CompilerServices;
using VirtBackup.Proofs.PlanCalibration;

/// <summary>
/// What the .NET runtime runs in a process before its Main when DOTNET_STARTUP_HOOKS names this assembly; name and form are
/// the runtime's. It plants a sabotage of the estimator in the controller, and in nothing that ships.
/// </summary>
internal static class StartupHook
{
    private const string Program = "virtbackupd";
    private const string Sabotage = "VIRTBACKUP_PLANTED_SABOTAGE";

    public static void Initialize()
    {
        if (Path.GetFileName(Environment.ProcessPath) == Program) Plant();
    }

    /// <summary>In this process, and in all programs that are started from now on.</summary>
    public static void Install(string? sabotage)
    {
        if (sabotage is null) return;
        Environment.SetEnvironmentVariable(Sabotage, sabotage);
        Environment.SetEnvironmentVariable("DOTNET_STARTUP_HOOKS", typeof(StartupHook).Assembly.Location);
        Plant();
    }

    // Not inlined: the estimator is loaded only where it is.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Plant() => Sabotages.Plant(Environment.GetEnvironmentVariable(Sabotage));
}

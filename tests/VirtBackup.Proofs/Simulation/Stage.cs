namespace VirtBackup.Proofs.Simulation;

/// <summary>What the controller is doing, for whom it does it: follows the flow of calls.</summary>
internal static class Stage
{
    private static readonly AsyncLocal<string?> Flow = new();

    public static string Now => Flow.Value ?? "other";

    /// <summary>Until the calling async method ends.</summary>
    public static void Enter(string stage) => Flow.Value = stage;
}

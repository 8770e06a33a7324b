namespace VirtBackup.Proofs.Simulation;

/// <summary>What the controller is doing, for whom it does it: follows the flow of calls.</summary>
internal static class Stage
{
    private static readonly AsyncLocal<Place?> Flow = new();

    public static string Now => Flow.Value?.Name ?? "other";

    /// <summary>Until the calling async method ends.</summary>
    public static void Enter(string stage) => Flow.Value = new Place { Name = stage };

    /// <summary>The stage that somebody up the flow has entered goes on under another name, for all who are in it.</summary>
    public static void Rename(string stage)
    {
        if (Flow.Value is { } place)
        {
            place.Name = stage;
        }
    }

    private sealed class Place
    {
        public required string Name { get; set; }
    }
}

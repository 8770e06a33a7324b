namespace VirtBackup.Proofs.GroupCut;

/// <summary>Faults planted around the product, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string LeaveOneOut = "leave-one-out";
    public const string LetGoEarly = "let-go-early";
    public const string PlantEffect = "plant-effect";

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (LeaveOneOut, "one of the two guests is not held with the other, but cut by itself a moment later"),
        (LetGoEarly, "one of the guests goes on as soon as it stands still, before both are cut: the product has to say that it was not held"),
        (PlantEffect, "the restored disk of one guest holds a message that the other has not sent"),
    ];
}

namespace VirtBackup.Proofs;

/// <summary>A claim about the whole system, tried again and again with seeded chance.</summary>
internal interface IProof
{
    string Name { get; }

    /// <summary>Defects that can be planted; each must be found.</summary>
    IReadOnlyList<string> Sabotages { get; }

    int DefaultTrials { get; }

    /// <summary>What was done so far, for people.</summary>
    string Figures { get; }

    /// <param name="options">Seed and sabotage.</param>
    /// <param name="trial">Decides, with the seed, what is done.</param>
    /// <param name="isLate">True when the trial should leave out what it has not begun.</param>
    /// <exception cref="ViolationException">The claim is wrong.</exception>
    void Run(ProofOptions options, int trial, Func<bool> isLate);
}

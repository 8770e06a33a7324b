namespace VirtBackup.Testing.Proofs;

/// <summary>A claim about the whole system, tried again and again with seeded chance. Runs once.</summary>
public interface IProof
{
    string Name { get; }

    /// <summary>Faults that can be planted; each must be found.</summary>
    IReadOnlyList<(string Name, string What)> Sabotages { get; }

    /// <summary>No more trials than these without being asked to; in the long and in the short form.</summary>
    (int Long, int Short) TrialsMax { get; }

    /// <summary>No trial of the short form begins later, unless their number was given.</summary>
    TimeSpan ShortLimit { get; }

    /// <summary>Options that only this proof has, as they were given: they belong to a run that is to be repeated.</summary>
    string OwnOptions => "";

    /// <summary>What was done so far, for people.</summary>
    string Figures { get; }

    /// <summary>Sets the stage and runs all trials.</summary>
    /// <param name="options">Seed and sabotage.</param>
    /// <param name="trials">The trials to run, by number. It ends when they are enough.</param>
    /// <param name="isLate">True when a trial should leave out what it has not begun.</param>
    /// <param name="cancellationToken">The person at the keyboard has had enough.</param>
    /// <exception cref="RefutedException">The claim does not hold.</exception>
    Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken);
}

/// <summary>The claim under proof does not hold, or could not be shown.</summary>
public sealed class RefutedException(string message) : Exception(message)
{
    /// <summary>The trial that refutes it; null: the one begun last.</summary>
    public int? Trial { get; init; }
}

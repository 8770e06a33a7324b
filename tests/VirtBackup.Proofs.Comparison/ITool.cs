namespace VirtBackup.Proofs.Comparison;

/// <summary>A backup program, with a place of its own for what it stores. One turn after the other; in each: begin, full, incremental, restore, end.</summary>
internal interface ITool
{
    string Name { get; }

    /// <summary>Makes everything ready that a user sets up once. Nothing is stored yet.</summary>
    Task BeginAsync();

    Task BackUpFullyAsync();

    /// <exception cref="Testing.Proofs.RefutedException">It read the whole disk.</exception>
    Task BackUpChangesAsync();

    /// <summary>Restores the state of the last backup to a new folder.</summary>
    /// <returns>The path of each disk's restored qcow2 image, by its target.</returns>
    Task<IReadOnlyDictionary<string, string>> RestoreAsync(string folder);

    /// <summary>Bytes of all files that it keeps.</summary>
    long MeasureStored();

    /// <summary>Takes everything away, also out of the machine.</summary>
    Task EndAsync();
}

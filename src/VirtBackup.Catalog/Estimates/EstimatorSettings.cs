namespace VirtBackup.Catalog.Estimates;

/// <summary>By what restores are estimated; see ESTIMATES.md.</summary>
public sealed record EstimatorSettings
{
    public static EstimatorSettings Default { get; } = new();

    /// <summary>The newest restores of a path that an estimate is judged by.</summary>
    public int RestoresMax { get; init; } = 60;

    /// <summary>Of ten restores, this share is to be over within the upper time.</summary>
    public double Level { get; init; } = 0.9;

    /// <summary>The newest estimates by whose outcome the level is corrected.</summary>
    public int RecordMax { get; init; } = 40;

    /// <summary>Below this many restores, made-up ones stand in for those that are missing.</summary>
    public int RestoresMin { get; init; } = 20;

    /// <summary>How far made-up restores are off: standard deviation of the logarithm of actual to estimated time.</summary>
    public double PriorSpread { get; init; } = 0.7;

    /// <summary>By how much of the sample's slowness a restore is slower, before there is history: an exponent.</summary>
    public double SampleSlope { get; init; } = 0.7;

    /// <summary>By how much of the number of jobs side by side a restore is slower, before there is history: an exponent.</summary>
    public double NeighbourSlope { get; init; } = 0.6;

    /// <summary>How many restores the two slopes are worth against what history says.</summary>
    public double SlopeWeight { get; init; } = 1;

    /// <summary>How many restores it is worth that a restore goes as fast as its sample.</summary>
    public double RateWeight { get; init; } = 0.3;

    /// <summary>What a restore takes that moves nothing, before there is history. Seconds.</summary>
    public double FixedSeconds { get; init; } = 0.4;

    /// <summary>The rate of a path that was never measured, bytes per second.</summary>
    public double UnknownRate { get; init; } = 50e6;
}

namespace VirtBackup.Proofs.KillBackup;

/// <summary>Counts what happened, for the verdict.</summary>
internal sealed class Tally
{
    private readonly int[] _victims = new int[Enum.GetValues<Victims>().Length];
    private readonly int[] _stages = new int[Enum.GetValues<Stage>().Length];

    public int Trials { get; private set; }

    /// <summary>Killed backups that became recovery points all the same.</summary>
    public int Committed { get; set; }

    /// <summary>Killed backups that ended with a failure, and without a recovery point.</summary>
    public int GivenUp { get; set; }

    /// <summary>Backups after a kill that read changed blocks only.</summary>
    public int Incremental { get; set; }

    public void Count(Victims victims, Stage stage)
    {
        Trials++;
        _victims[(int)victims]++;
        _stages[(int)stage]++;
    }

    public override string ToString() =>
        $"killed({Text<Victims>(_victims)}) while({Text<Stage>(_stages)}) committed={Committed} given-up={GivenUp} incremental-after={Incremental}";

    private static string Text<T>(int[] counts)
        where T : struct, Enum => string.Join(' ', Enum.GetValues<T>().Select((value, i) => $"{value.ToString().ToLowerInvariant()}={counts[i]}"));
}

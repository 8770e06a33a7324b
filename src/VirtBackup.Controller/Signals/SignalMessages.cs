using System.Globalization;
using VirtBackup.Catalog.Signals;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Signals;

/// <summary>What people and tools are told of runs.</summary>
internal static class SignalMessages
{
    public static MachineRun ToMessage(RunRow run) => new()
    {
        PointId = run.PointId.ToString(),
        EndTime = WireText.ToTimestamp(run.EndedMs),
        LogicalBytes = (ulong)run.LogicalBytes,
        NewBytes = (ulong)run.NewBytes,
        GrownBytes = (ulong)run.GrownBytes,
        StoredBytes = (ulong)run.StoredBytes,
        AuditedBytes = (ulong)run.AuditedBytes,
        AuditMisses = (ulong)run.AuditMisses,
        NewShare = Fraction(run.NewShare),
        StoredShare = Fraction(run.StoredShare),
        UsualNewShare = Fraction(run.UsualNew),
        UsualStoredShare = Fraction(run.UsualStored),
        Verdict = run.Verdict switch
        {
            Catalog.Signals.RunVerdict.Usual => Protocol.Admin.V1.RunVerdict.Usual,
            Catalog.Signals.RunVerdict.Abnormal => Protocol.Admin.V1.RunVerdict.Abnormal,
            Catalog.Signals.RunVerdict.Accepted => Protocol.Admin.V1.RunVerdict.Accepted,
            _ => Protocol.Admin.V1.RunVerdict.Learning,
        },
        Explanation = run.Verdict is Catalog.Signals.RunVerdict.Abnormal or Catalog.Signals.RunVerdict.Accepted ? Explain(run) : "",
    };

    /// <summary>Why a run is abnormal, in one or two sentences.</summary>
    public static string Explain(RunRow run)
    {
        var stored = run.UsualStored > 0
            ? $"of which {Percent(run.StoredShare)} had to be stored after compression (usually {Percent(run.UsualStored)})"
            : $"of which {Percent(run.StoredShare)} had to be stored after compression";
        return $"{Percent(run.NewShare)} of the machine was new data (usually {Percent(run.UsualNew)}), {stored}. This is what it looks like when a machine's files are encrypted or overwritten.";
    }

    /// <summary>The reason of the holds for an abnormal run.</summary>
    public static string ReasonOf(RunRow run) =>
        $"the run of {DateTimeOffset.FromUnixTimeMilliseconds(run.EndedMs).ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture)} UTC was unusual: {Percent(run.NewShare)} of the machine was new data";

    private static double Fraction(int millionths) => millionths / (double)RunJudge.Whole;

    private static string Percent(int millionths)
    {
        var percent = millionths / (RunJudge.Whole / 100.0);
        return percent.ToString(percent >= 10 ? "0" : percent >= 0.1 ? "0.0" : "0.000", CultureInfo.InvariantCulture) + " %";
    }
}

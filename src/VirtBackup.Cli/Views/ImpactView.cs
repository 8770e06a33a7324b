using System.Globalization;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Views;

/// <summary>How the guest's writes and flushes fared while a backup read; milliseconds, null where it is not known.</summary>
internal sealed record ImpactView(
    ulong Operations, double? BaselineMs, double? MeanMs, double? P50Ms, double? P99Ms, double? MaxMs, double? BudgetMs, double ThrottledSeconds)
{
    public static ImpactView? Of(GuestImpact? impact) => impact is null ? null : new(
        impact.Operations, Ms(impact.BaselineUs), Ms(impact.MeanUs), Ms(impact.P50Us), Ms(impact.P99Us), Ms(impact.MaxUs), Ms(impact.BudgetUs), impact.ThrottledMs / 1000.0);

    /// <summary>One line for people.</summary>
    public string Text => Operations == 0 ? "the guest wrote nothing meanwhile"
        : $"{Units.Count(Operations)} writes took {Told(MeanMs)} ms each (before: {Told(BaselineMs)} ms; half within {Told(P50Ms)}, 99% within {Told(P99Ms)}, longest {Told(MaxMs)} ms)"
            + (ThrottledSeconds > 0 ? $"; reading was held back for {ThrottledSeconds.ToString("0.0", CultureInfo.InvariantCulture)} s to stay within {Told(BudgetMs)} ms" : "");

    private static double? Ms(ulong us) => us == 0 ? null : us / 1000.0;

    private static string Told(double? ms) => ms?.ToString(ms < 10 ? "0.00" : "0", CultureInfo.InvariantCulture) ?? "?";
}

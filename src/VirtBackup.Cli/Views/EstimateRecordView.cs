using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Views;

/// <summary>How the last predictions of a kind turned out.</summary>
internal sealed record EstimateRecordView(uint Scored, uint WithinP50, uint WithinP90, double MedianError)
{
    /// <param name="record">Null: there were none.</param>
    public static EstimateRecordView Of(EstimateRecord? record) => record is null ? new(0, 0, 0, 0) : new(record.Scored, record.WithinP50, record.WithinP90, record.MedianError);

    /// <inheritdoc cref="Of(EstimateRecord?)"/>
    public static EstimateRecordView Of(RecoveryRecord? record) => record is null ? new(0, 0, 0, 0) : new(record.Scored, record.WithinP50, record.WithinP90, record.MedianError);

    /// <summary>How far such predictions can be relied on, for people.</summary>
    /// <param name="untested">What to say when there were none.</param>
    /// <param name="what">Stands behind their number.</param>
    public string Reliance(string untested, string what) => Scored == 0
        ? untested
        : $"of the last {Scored} {what} {WithinP90} {(WithinP90 == 1 ? "was" : "were")} within P90; median error {Units.Percent((ulong)(MedianError * 1000), 1000)}";
}

using VirtBackup.Database;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Index;

/// <summary>
/// The index's content as sorted lines without anything that may differ between two indexes of one store: numbers, times,
/// ownership. For comparing.
/// </summary>
internal static class IndexDump
{
    public static ValueTask<IReadOnlyList<string>> WriteAsync(IDatabase index, CancellationToken cancellationToken) => index.ReadAsync(Dump, cancellationToken);

    private static IReadOnlyList<string> Dump(ISqlConnection connection)
    {
        var lines = new List<string>();
        Add("SELECT hash, kind, records, bytes, raw_bytes, dead_records, dead_bytes FROM pack WHERE state = 0", row =>
            $"pack {row.GetId32(0)} {(RecordKind)row.GetInt64(1)} records={row.GetInt64(2)} bytes={row.GetInt64(3)} raw={row.GetInt64(4)} dead={row.GetInt64(5)} dead-bytes={row.GetInt64(6)}");
        Add(
            """
            SELECT o.kind, o.id, s.id, p.hash, o.position, o.sealed_length, o.raw_length, o.codec, o.id_generation, o.count, o.holds
            FROM object o JOIN scope s ON s.number = o.scope JOIN pack p ON p.number = o.pack
            """,
            row => $"object {(RecordKind)row.GetInt64(0)} {row.GetId32(1)} scope={row.GetId16(2)} pack={row.GetId32(3)} at={row.GetInt64(4)} "
                + $"sealed={row.GetInt64(5)} raw={row.GetInt64(6)} codec={row.GetInt64(7)} id-generation={row.GetInt64(8)} count={row.GetInt64(9)} holds={row.GetInt64(10)}");
        Add(
            "SELECT o.kind, o.id, s.id, o.pack, o.count, o.holds FROM object o JOIN scope s ON s.number = o.scope WHERE o.pack <= 0",
            row => $"object {(RecordKind)row.GetInt64(0)} {row.GetId32(1)} scope={row.GetId16(2)} {(row.GetInt64(3) == 0 ? "quarantined" : "doubtful")} "
                + $"count={row.GetInt64(4)} holds={row.GetInt64(5)}");
        Add(
            """
            SELECT n.id, s.id, n.length, n.level, n.shape, e.members
            FROM complete_node n JOIN scope s ON s.number = n.scope JOIN epoch_set e ON e.number = n.epochs
            """,
            row => $"complete {row.GetId32(0)} scope={row.GetId16(1)} length={row.GetInt64(2)} level={row.GetInt64(3)} shape={row.GetInt64(4)} "
                + $"epochs={Convert.ToHexStringLower(row.GetSpan(5))}");
        Add("SELECT vm, epoch, recipient FROM vm_key", row => $"key {row.GetId16(0)} {row.GetId16(1)} {row.GetId16(2)}");
        Add("SELECT point, manifest FROM pending_commit", row => $"pending {row.GetId16(0)} {row.GetId32(1)}");
        PointTable.List(connection, null).ForEach(point => lines.Add(point.ToString()));
        PointTable.ListForgotten(connection).ForEach(row => lines.Add($"forgotten {row.Info}"));
        lines.Sort(StringComparer.Ordinal);
        return lines;

        void Add(string sql, Func<IStatement, string> format)
        {
            using var rows = connection.Prepare(sql);
            while (rows.Step())
            {
                lines.Add(format(rows));
            }
        }
    }
}

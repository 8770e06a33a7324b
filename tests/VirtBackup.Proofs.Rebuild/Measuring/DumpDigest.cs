using System.Buffers.Binary;
using System.Security.Cryptography;
using VirtBackup.Database;

namespace VirtBackup.Proofs.Rebuild.Measuring;

/// <summary>
/// What the product's logical dump says of an index, table by table, as a hash in place of lines: an index of this size has
/// too many. The columns are those of the dump: nothing that may differ between two indexes of one store.
/// </summary>
internal static class DumpDigest
{
    // Of each column: b: bytes, i: a number.
    private static readonly (string Table, string Columns, string Sql)[] Queries =
    [
        ("pack", "biiiiii", "SELECT hash, kind, records, bytes, raw_bytes, dead_records, dead_bytes FROM pack WHERE state = 0 ORDER BY hash"),
        ("object", "ibbbiiiiiii",
            """
            SELECT o.kind, o.id, s.id, p.hash, o.position, o.sealed_length, o.raw_length, o.codec, o.id_generation, o.count, o.holds
            FROM object o CROSS JOIN scope s ON s.number = o.scope CROSS JOIN pack p ON p.number = o.pack ORDER BY o.id, o.kind
            """),
        ("object without location", "ibiii", "SELECT kind, id, pack, count, holds FROM object WHERE pack <= 0 ORDER BY id, kind, pack"),
        ("complete_node", "bbiiib",
            """
            SELECT n.id, s.id, n.length, n.level, n.shape, e.members
            FROM complete_node n CROSS JOIN scope s ON s.number = n.scope CROSS JOIN epoch_set e ON e.number = n.epochs ORDER BY n.id, n.length
            """),
        ("vm_key", "bbb", "SELECT vm, epoch, recipient FROM vm_key ORDER BY vm, epoch, recipient"),
        ("pending_commit", "bb", "SELECT point, manifest FROM pending_commit ORDER BY point"),
        ("point", "bbbbiiiibibbbiibbi",
            """
            SELECT point, vm, lineage, scope, sequence, created_ms, generation, attempt, manifest, manifest_bytes, previous_manifest, base_manifest,
                agent_key, stream_bytes, state, origin, roots, forgotten_ms > 0 FROM point ORDER BY point
            """),
    ];

    /// <summary>Rows and hash of each table.</summary>
    public static ValueTask<List<string>> TakeAsync(IDatabase index) => index.ReadAsync(
        static connection => Queries.Select(query => $"{query.Table}: {Take(connection, query.Columns, query.Sql)}").ToList(), CancellationToken.None);

    private static string Take(ISqlConnection connection, string columns, string sql)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using var rows = connection.Prepare(sql);
        Span<byte> number = stackalloc byte[sizeof(long)];
        long count = 0;
        for (; rows.Step(); count++)
        {
            for (var i = 0; i < columns.Length; i++)
            {
                var bytes = columns[i] == 'b' ? rows.GetSpan(i) : default;
                BinaryPrimitives.WriteInt64LittleEndian(number, columns[i] == 'b' ? bytes.Length : rows.GetInt64(i));
                hash.AppendData(number);
                hash.AppendData(bytes);
            }
        }
        return $"{count} rows, {Convert.ToHexStringLower(hash.GetHashAndReset())}";
    }
}

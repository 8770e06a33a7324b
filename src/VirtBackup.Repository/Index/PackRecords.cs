using VirtBackup.Database;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Index;

/// <summary>Which records of a pack have rows. Each method runs inside a transaction of the caller.</summary>
internal static class PackRecords
{
    private const string Columns = "o.kind, o.codec, o.raw_length, o.sealed_length, o.id, s.id, o.id_generation, o.position, o.count";

    /// <summary>Those of the footer's records that have a row.</summary>
    public static List<IndexedRecord> Find(ISqlConnection connection, long pack, ReadOnlySpan<PackEntry> entries)
    {
        using var statement = connection.Prepare(
            $"SELECT {Columns} FROM object o JOIN scope s ON s.number = o.scope WHERE o.id = ?1 AND o.kind = ?2 AND s.id = ?3 AND o.pack IN (?4, -?4)");
        statement.Bind(4, pack);
        var records = new List<IndexedRecord>(entries.Length);
        foreach (ref readonly var entry in entries)
        {
            if (statement.Bind(1, entry.Header.Id).Bind(2, (long)entry.Header.Kind).Bind(3, entry.Header.Scope).Step())
            {
                records.Add(Read(statement));
            }
            statement.Reset();
        }
        return records;
    }

    /// <summary>All rows that name the pack, without its help: looks at every row of the index.</summary>
    public static List<IndexedRecord> Scan(ISqlConnection connection, long pack)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM object o JOIN scope s ON s.number = o.scope WHERE o.pack IN (?1, -?1)");
        statement.Bind(1, pack);
        var records = new List<IndexedRecord>();
        while (statement.Step())
        {
            records.Add(Read(statement));
        }
        return records;
    }

    /// <summary>A row that begins with the columns of <see cref="IndexedRecord"/>.</summary>
    public static IndexedRecord Read(IStatement row) => new(
        new RecordHeader(
            (RecordKind)row.GetInt64(0), (RecordCodec)row.GetInt64(1), (int)row.GetInt64(2), (int)row.GetInt64(3), row.GetId32(4), row.GetId16(5), (ushort)row.GetInt64(6)),
        row.GetInt64(7), row.GetInt64(8));
}

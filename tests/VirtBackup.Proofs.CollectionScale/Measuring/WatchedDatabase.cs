using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Proofs.CollectionScale.Measuring;

/// <summary>
/// Looks over the product's shoulder: counts the rows that statements deliver or change, and remembers every statement, so
/// that its plan can be looked at.
/// </summary>
internal sealed class WatchedDatabase(IDatabase inner) : IDatabase
{
    /// <summary>Tables that do not grow with the chunks, and what SQLite calls results that it holds itself.</summary>
    private static readonly string[] Small = ["owner", "scope", "point", "pending_commit", "collection", "audit", "numbering", "c", "CONSTANT"];

    /// <summary>Indexes that hold only what there is to do.</summary>
    private static readonly string[] Partial = ["object_without_reference", "node_to_release", "pack_to_repack", "pack_without_live", "pack_in_trash"];

    private readonly HashSet<string> _statements = new(StringComparer.Ordinal);

    public long Rows { get; private set; }

    public ValueTask<T> WriteAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken) =>
        inner.WriteAsync(connection => body(new Connection(this, connection)), cancellationToken);

    public ValueTask<T> ReadAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken) =>
        inner.ReadAsync(connection => body(new Connection(this, connection)), cancellationToken);

    public IScratch OpenScratch() => inner.OpenScratch();

    public ValueTask DisposeAsync() => inner.DisposeAsync();

    /// <summary>Forgets the statements so far.</summary>
    public void Reset() => _statements.Clear();

    /// <summary>Statements that look at every row of a table or index that grows with the chunks.</summary>
    public ValueTask<List<string>> FindScansAsync() => inner.ReadAsync(
        connection =>
        {
            var scans = new List<string>();
            foreach (var sql in _statements)
            {
                using var plan = connection.Prepare($"EXPLAIN QUERY PLAN {sql}");
                while (plan.Step())
                {
                    var step = plan.GetString(3)!;
                    var words = step.Split(' ');
                    if (words[0] == "SCAN" && !Small.Contains(words[1]) && !words.Any(static word => Partial.Contains(word)))
                    {
                        scans.Add($"{step}: {string.Join(' ', sql.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))}");
                    }
                }
            }
            return scans;
        },
        CancellationToken.None);

    private sealed class Connection(WatchedDatabase owner, ISqlConnection connection) : ISqlConnection
    {
        public IStatement Prepare(string sql)
        {
            owner._statements.Add(sql);
            return new Statement(owner, connection.Prepare(sql));
        }

        public void Execute(string sql) => connection.Execute(sql);
    }

    private sealed class Statement(WatchedDatabase owner, IStatement statement) : IStatement
    {
        public IStatement Bind(int index, long value) => Bound(statement.Bind(index, value));

        public IStatement Bind(int index, string? value) => Bound(statement.Bind(index, value));

        public IStatement Bind(int index, ReadOnlySpan<byte> value) => Bound(statement.Bind(index, value));

        public IStatement Bind(int index, Id16 value) => Bound(statement.Bind(index, value));

        public IStatement Bind(int index, Id32 value) => Bound(statement.Bind(index, value));

        public IStatement BindNull(int index) => Bound(statement.BindNull(index));

        public bool Step()
        {
            var isRow = statement.Step();
            owner.Rows += isRow ? 1 : 0;
            return isRow;
        }

        public int Execute()
        {
            var rows = statement.Execute();
            owner.Rows += rows;
            return rows;
        }

        public void Reset() => statement.Reset();

        public bool IsNull(int column) => statement.IsNull(column);

        public long GetInt64(int column) => statement.GetInt64(column);

        public string? GetString(int column) => statement.GetString(column);

        public ReadOnlySpan<byte> GetSpan(int column) => statement.GetSpan(column);

        public byte[] GetBytes(int column) => statement.GetBytes(column);

        public Id16 GetId16(int column) => statement.GetId16(column);

        public Id32 GetId32(int column) => statement.GetId32(column);

        public void Dispose() => statement.Dispose();

        private Statement Bound(IStatement bound)
        {
            Check.That(ReferenceEquals(bound, statement));
            return this;
        }
    }
}

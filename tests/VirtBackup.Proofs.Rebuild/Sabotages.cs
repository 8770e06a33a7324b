using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Proofs.Rebuild;

/// <summary>Faults planted around the product, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string CountMore = "count-more";
    public const string SlowNodes = "slow-nodes";
    public const string SlowRows = "slow-rows";

    private const int Repetitions = 60;

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (CountMore, "counts a reference too many to the first record of some packs"),
        (SlowNodes, $"hashes what is read of the store {Repetitions} times"),
        (SlowRows, "makes the database work longer on every statement that inserts objects"),
    ];

    public static IDatabase Spoil(string? sabotage, IDatabase index) => sabotage switch
    {
        CountMore => new SpoiltDatabase(index, "?6, ?7, ?8", "?6, ?7 + (?3 = 0), ?8"),
        SlowRows => new SpoiltDatabase(index, "?6, ?7, ?8", "?6 + 0 * length(hex(randomblob(32768))), ?7, ?8"),
        _ => index,
    };

    public static IObjectStore Spoil(string? sabotage, IObjectStore store) => sabotage == SlowNodes ? new SlowStore(store) : store;

    /// <summary>Runs other statements than it is given, where objects get their rows.</summary>
    private sealed class SpoiltDatabase(IDatabase inner, string text, string other) : IDatabase
    {
        public ValueTask<T> WriteAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken) =>
            inner.WriteAsync(connection => body(new Connection(connection, Alter)), cancellationToken);

        public ValueTask<T> ReadAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken) => inner.ReadAsync(body, cancellationToken);

        public IScratch OpenScratch() => inner.OpenScratch();

        public ValueTask DisposeAsync() => inner.DisposeAsync();

        private string Alter(string sql)
        {
            if (!sql.StartsWith("INSERT INTO object(", StringComparison.Ordinal))
            {
                return sql;
            }
            Check.That(sql.Contains(text, StringComparison.Ordinal));
            return sql.Replace(text, other, StringComparison.Ordinal);
        }

        private sealed class Connection(ISqlConnection inner, Func<string, string> alter) : ISqlConnection
        {
            public IStatement Prepare(string sql) => inner.Prepare(alter(sql));

            public void Execute(string sql) => inner.Execute(sql);
        }
    }

    private sealed class SlowStore(IObjectStore inner) : IObjectStore
    {
        public async ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
        {
            var count = await inner.ReadAsync(key, offset, destination, cancellationToken);
            for (var i = 0; i < Repetitions; i++)
            {
                SHA256.HashData(destination.Span[..count]);
            }
            return count;
        }

        public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken) => inner.CreateAsync(cancellationToken);

        public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken) => inner.FindAsync(key, cancellationToken);

        public IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, CancellationToken cancellationToken) => inner.ListAsync(prefix, cancellationToken);

        public ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken) => inner.DeleteAsync(key, cancellationToken);

        public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => inner.GetFreeBytesAsync(cancellationToken);
    }
}

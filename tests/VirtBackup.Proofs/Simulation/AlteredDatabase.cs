using VirtBackup.Database;

namespace VirtBackup.Proofs.Simulation;

/// <summary>Planted defect: a database that runs other statements than it is given.</summary>
/// <param name="inner">Runs them.</param>
/// <param name="alter">What is run instead.</param>
internal sealed class AlteredDatabase(IDatabase inner, Func<string, string> alter) : IDatabase
{
    public ValueTask<T> WriteAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken) =>
        inner.WriteAsync(connection => body(new Altered(connection, alter)), cancellationToken);

    public ValueTask<T> ReadAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken) =>
        inner.ReadAsync(connection => body(new Altered(connection, alter)), cancellationToken);

    public IScratch OpenScratch() => inner.OpenScratch();

    public ValueTask DisposeAsync() => inner.DisposeAsync();

    private sealed class Altered(ISqlConnection inner, Func<string, string> alter) : ISqlConnection
    {
        public IStatement Prepare(string sql) => inner.Prepare(alter(sql));

        public void Execute(string sql) => inner.Execute(sql);
    }
}

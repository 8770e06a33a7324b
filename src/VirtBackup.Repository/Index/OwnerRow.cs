using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Repository.Index;

/// <summary>What the index knows of the repository it belongs to.</summary>
/// <param name="Repository">The repository's name.</param>
/// <param name="Generation">The latest ownership that was claimed with this index.</param>
/// <param name="Nonce">The random name of that claim, as in the store's owner object.</param>
/// <param name="Rebuilding">True while the content is not whole.</param>
internal sealed record OwnerRow(Id16 Repository, long Generation, Id16 Nonce, bool Rebuilding)
{
    public static OwnerRow? Read(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT repository, generation, nonce, rebuilding FROM owner");
        return statement.Step()
            ? new OwnerRow(statement.GetId16(0), statement.GetInt64(1), statement.GetId16(2), statement.GetInt64(3) != 0)
            : null;
    }

    public void Write(ISqlConnection connection)
    {
        using var statement = connection.Prepare(
            """
            INSERT INTO owner(only_row, repository, generation, nonce, rebuilding) VALUES (1, ?1, ?2, ?3, ?4)
            ON CONFLICT(only_row) DO UPDATE SET
                repository = excluded.repository, generation = excluded.generation, nonce = excluded.nonce, rebuilding = excluded.rebuilding
            """);
        statement.Bind(1, Repository).Bind(2, Generation).Bind(3, Nonce).Bind(4, Rebuilding ? 1 : 0).Execute();
    }
}

using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>Machines that are cut at one instant.</summary>
/// <param name="SkewBoundMs">A cut whose skew may have been more is not called consistent.</param>
public sealed record GroupRow(string Name, int SkewBoundMs, IReadOnlyList<Id16> Members);

/// <summary>The groups of machines.</summary>
public sealed class GroupRecords(IDatabase database)
{
    public const int NameCharsMax = 64;

    public const int CountMax = 1000;

    public const int MembersMax = 64;

    public const int SkewBoundMsMax = 60_000;

    private static readonly SearchValues<char> NameChars = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

    /// <summary>Makes a group.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.InvalidArgument"/>: a name or number is out of bounds; <see cref="FaultReason.AlreadyExists"/>;
    /// <see cref="FaultReason.FailedPrecondition"/>: there are <see cref="CountMax"/> groups.
    /// </exception>
    public ValueTask<GroupRow> AddAsync(GroupRow group, long nowMs, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(group);
        ValidateName(group.Name);
        return database.WriteAsync(
            connection =>
            {
                if (Find(connection, group.Name) is not null)
                {
                    throw new FaultException(FaultReason.AlreadyExists, $"There is a group '{group.Name}' already.");
                }
                if (Count(connection) >= CountMax)
                {
                    throw new FaultException(FaultReason.FailedPrecondition, $"There are {CountMax} groups already: delete some first.");
                }
                using (var statement = connection.Prepare("INSERT INTO machine_group (name, skew_bound_ms, created_ms) VALUES (?1, ?2, ?3)"))
                {
                    statement.Bind(1, group.Name).Bind(2, group.SkewBoundMs).Bind(3, nowMs).Execute();
                }
                return Change(connection, group.Name, group.Members, [], group.SkewBoundMs);
            },
            cancellationToken);
    }

    /// <param name="skewBoundMs">Null: as before.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.NotFound"/>: there is no such group; <see cref="FaultReason.InvalidArgument"/>: too many members, or a number out of bounds.
    /// </exception>
    public ValueTask<GroupRow> ChangeAsync(
        string name, IReadOnlyCollection<Id16> added, IReadOnlyCollection<Id16> removed, int? skewBoundMs, CancellationToken cancellationToken) =>
        database.WriteAsync(connection => Change(connection, name, added, removed, skewBoundMs), cancellationToken);

    public ValueTask<GroupRow?> FindAsync(string name, CancellationToken cancellationToken) => database.ReadAsync(connection => Find(connection, name), cancellationToken);

    /// <summary>All groups by name.</summary>
    public ValueTask<List<GroupRow>> ListAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var names = new List<string>();
                using (var statement = connection.Prepare("SELECT name FROM machine_group ORDER BY name"))
                {
                    while (statement.Step())
                    {
                        names.Add(statement.GetString(0)!);
                    }
                }
                return names.Select(name => Find(connection, name)!).ToList();
            },
            cancellationToken);

    /// <summary>Deletes the group; what its runs made stays.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public ValueTask DeleteAsync(string name, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                _ = Require(connection, name);
                using (var members = connection.Prepare("DELETE FROM group_member WHERE name = ?1"))
                {
                    members.Bind(1, name).Execute();
                }
                using var statement = connection.Prepare("DELETE FROM machine_group WHERE name = ?1");
                statement.Bind(1, name).Execute();
            },
            cancellationToken);

    private static GroupRow Change(ISqlConnection connection, string name, IReadOnlyCollection<Id16> added, IReadOnlyCollection<Id16> removed, int? skewBoundMs)
    {
        _ = Require(connection, name);
        foreach (var vmId in removed)
        {
            using var statement = connection.Prepare("DELETE FROM group_member WHERE name = ?1 AND vm_id = ?2");
            statement.Bind(1, name).Bind(2, vmId).Execute();
        }
        foreach (var vmId in added)
        {
            using var statement = connection.Prepare("INSERT OR IGNORE INTO group_member (name, vm_id) VALUES (?1, ?2)");
            statement.Bind(1, name).Bind(2, vmId).Execute();
        }
        if (skewBoundMs is { } bound)
        {
            if (bound is < 1 or > SkewBoundMsMax)
            {
                throw new FaultException(FaultReason.InvalidArgument, $"A group's bound of skew lies between 1 and {SkewBoundMsMax} ms.");
            }
            using var statement = connection.Prepare("UPDATE machine_group SET skew_bound_ms = ?2 WHERE name = ?1");
            statement.Bind(1, name).Bind(2, bound).Execute();
        }
        var group = Find(connection, name)!;
        return group.Members.Count <= MembersMax ? group : throw new FaultException(FaultReason.InvalidArgument, $"A group has at most {MembersMax} machines.");
    }

    private static GroupRow Require(ISqlConnection connection, string name) => Find(connection, name) ?? throw new FaultException(FaultReason.NotFound, $"There is no group '{name}'.");

    private static GroupRow? Find(ISqlConnection connection, string name)
    {
        using var statement = connection.Prepare("SELECT skew_bound_ms FROM machine_group WHERE name = ?1");
        if (!statement.Bind(1, name).Step())
        {
            return null;
        }
        var members = new List<Id16>();
        using var listed = connection.Prepare("SELECT vm_id FROM group_member WHERE name = ?1 ORDER BY vm_id");
        listed.Bind(1, name);
        while (listed.Step())
        {
            members.Add(listed.GetId16(0));
        }
        return new GroupRow(name, (int)statement.GetInt64(0), members);
    }

    private static long Count(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT count(*) FROM machine_group");
        return statement.Step() ? statement.GetInt64(0) : 0;
    }

    private static void ValidateName(string name)
    {
        if (name.Length is 0 or > NameCharsMax || name.AsSpan().ContainsAnyExcept(NameChars) || !char.IsAsciiLetterOrDigit(name[0]))
        {
            throw new FaultException(
                FaultReason.InvalidArgument, $"A group's name has 1 to {NameCharsMax} letters, digits, dots, dashes and underscores, and begins with a letter or digit.");
        }
    }
}

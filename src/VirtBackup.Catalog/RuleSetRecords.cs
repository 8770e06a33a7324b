using System.Buffers;
using VirtBackup.Catalog.Retention;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>Named rules.</summary>
/// <param name="IsDefault">For machines without a rule set of their own; at most one is.</param>
/// <param name="Machines">How many machines have it as their own.</param>
/// <param name="ChangedMs">Unix milliseconds.</param>
public sealed record RuleSetRow(string Name, RetentionRules Rules, bool IsDefault, int Machines, long ChangedMs);

/// <summary>The rule set that governs a machine.</summary>
/// <param name="IsOwn">It is attached to the machine; else it is the default.</param>
public sealed record MachineRuleSet(RuleSetRow RuleSet, bool IsOwn);

/// <summary>Rule sets, and which machine has which.</summary>
public sealed class RuleSetRecords(IDatabase database)
{
    public const int NameCharsMax = 64;

    public const int CountMax = 1000;

    private const string Query = """
        SELECT name, keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_within_hours, is_default, changed_ms,
            (SELECT count(*) FROM rule_set_of_machine m WHERE m.rule_set = r.name)
        FROM rule_set r
        """;

    private static readonly SearchValues<char> NameChars = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>.</exception>
    public static void ValidateName(string name)
    {
        if (name.Length is 0 or > NameCharsMax || name.AsSpan().ContainsAnyExcept(NameChars) || !char.IsAsciiLetterOrDigit(name[0]))
        {
            throw new FaultException(
                FaultReason.InvalidArgument, $"A rule set's name has 1 to {NameCharsMax} letters, digits, dots, dashes and underscores, and begins with a letter or digit.");
        }
    }

    /// <summary>Makes the rule set, or replaces the rules of the one with this name.</summary>
    /// <param name="isDefault">Whether it is the default from now on; null: as before. Another default ceases to be one.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.InvalidArgument"/>: the name or a number is out of bounds; <see cref="FaultReason.FailedPrecondition"/>:
    /// there are <see cref="CountMax"/> rule sets.
    /// </exception>
    public ValueTask<RuleSetRow> SetAsync(string name, RetentionRules rules, bool? isDefault, long nowMs, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(rules);
        ValidateName(name);
        rules.Validate();
        return database.WriteAsync(
            connection =>
            {
                var before = Find(connection, name);
                if (before is null && Count(connection) >= CountMax)
                {
                    throw new FaultException(FaultReason.FailedPrecondition, $"There are {CountMax} rule sets already: delete some first.");
                }
                if (isDefault == true)
                {
                    using var other = connection.Prepare("UPDATE rule_set SET is_default = 0 WHERE is_default = 1");
                    other.Execute();
                }
                Save(connection, name, rules, isDefault ?? before?.IsDefault ?? false, nowMs);
                return Find(connection, name)!;
            },
            cancellationToken);
    }

    public ValueTask<RuleSetRow?> FindAsync(string name, CancellationToken cancellationToken) =>
        database.ReadAsync(connection => Find(connection, name), cancellationToken);

    /// <summary>All rule sets by name.</summary>
    public ValueTask<List<RuleSetRow>> ListAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var rows = new List<RuleSetRow>();
                using var statement = connection.Prepare($"{Query} ORDER BY name");
                while (statement.Step())
                {
                    rows.Add(Read(statement));
                }
                return rows;
            },
            cancellationToken);

    /// <summary>Deletes a rule set that governs no machine.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.NotFound"/>; <see cref="FaultReason.FailedPrecondition"/>: machines have it, or it is the default.
    /// </exception>
    public ValueTask DeleteAsync(string name, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                var row = Require(connection, name);
                if (row.Machines > 0 || row.IsDefault)
                {
                    throw new FaultException(
                        FaultReason.FailedPrecondition,
                        row.Machines > 0
                            ? $"The rule set '{name}' is attached to {row.Machines} virtual machines: detach it from them first."
                            : $"The rule set '{name}' is the default: make another one the default first, or this one no default.");
                }
                using var statement = connection.Prepare("DELETE FROM rule_set WHERE name = ?1");
                statement.Bind(1, name).Execute();
            },
            cancellationToken);

    /// <summary>Gives a machine this rule set in place of the one that it had.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>: there is no such rule set.</exception>
    public ValueTask<MachineRuleSet> AttachAsync(Id16 vmId, string name, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                _ = Require(connection, name);
                using var statement = connection.Prepare(
                    "INSERT INTO rule_set_of_machine (vm_id, rule_set) VALUES (?1, ?2) ON CONFLICT (vm_id) DO UPDATE SET rule_set = ?2");
                statement.Bind(1, vmId).Bind(2, name).Execute();
                return new MachineRuleSet(Require(connection, name), IsOwn: true);
            },
            cancellationToken);

    /// <summary>Takes the machine's own rule set away; the default governs it from then on.</summary>
    /// <returns>What governs it now; null: nothing.</returns>
    public ValueTask<MachineRuleSet?> DetachAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("DELETE FROM rule_set_of_machine WHERE vm_id = ?1");
                statement.Bind(1, vmId).Execute();
                return FindOf(connection, vmId);
            },
            cancellationToken);

    /// <summary>What governs the machine; null: nothing does, and everything is kept.</summary>
    public ValueTask<MachineRuleSet?> FindOfAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(connection => FindOf(connection, vmId), cancellationToken);

    /// <summary>Machines to which the rule set is attached.</summary>
    public ValueTask<List<Id16>> ListMachinesAsync(string name, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var ids = new List<Id16>();
                using var statement = connection.Prepare("SELECT vm_id FROM rule_set_of_machine WHERE rule_set = ?1 ORDER BY vm_id");
                statement.Bind(1, name);
                while (statement.Step())
                {
                    ids.Add(statement.GetId16(0));
                }
                return ids;
            },
            cancellationToken);

    private static MachineRuleSet? FindOf(ISqlConnection connection, Id16 vmId)
    {
        using var statement = connection.Prepare(
            $"{Query} WHERE name = (SELECT rule_set FROM rule_set_of_machine WHERE vm_id = ?1) OR (is_default = 1 AND NOT EXISTS (SELECT 1 FROM rule_set_of_machine WHERE vm_id = ?1))");
        if (!statement.Bind(1, vmId).Step())
        {
            return null;
        }
        var row = Read(statement);
        using var own = connection.Prepare("SELECT 1 FROM rule_set_of_machine WHERE vm_id = ?1");
        return new MachineRuleSet(row, own.Bind(1, vmId).Step());
    }

    private static RuleSetRow Require(ISqlConnection connection, string name) =>
        Find(connection, name) ?? throw new FaultException(FaultReason.NotFound, $"There is no rule set '{name}'.");

    private static RuleSetRow? Find(ISqlConnection connection, string name)
    {
        using var statement = connection.Prepare($"{Query} WHERE name = ?1");
        return statement.Bind(1, name).Step() ? Read(statement) : null;
    }

    private static long Count(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT count(*) FROM rule_set");
        statement.Step();
        return statement.GetInt64(0);
    }

    private static void Save(ISqlConnection connection, string name, RetentionRules rules, bool isDefault, long nowMs)
    {
        using var statement = connection.Prepare(
            """
            INSERT INTO rule_set (name, keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_within_hours, is_default, changed_ms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
            ON CONFLICT (name) DO UPDATE SET keep_last = ?2, keep_hourly = ?3, keep_daily = ?4, keep_weekly = ?5, keep_monthly = ?6, keep_yearly = ?7,
                keep_within_hours = ?8, is_default = ?9, changed_ms = ?10
            """);
        statement.Bind(1, name).Bind(2, rules.Last).Bind(3, rules.Hourly).Bind(4, rules.Daily).Bind(5, rules.Weekly).Bind(6, rules.Monthly)
            .Bind(7, rules.Yearly).Bind(8, rules.WithinHours).Bind(9, isDefault ? 1 : 0).Bind(10, nowMs).Execute();
    }

    private static RuleSetRow Read(IStatement statement) => new(
        statement.GetString(0)!,
        new RetentionRules
        {
            Last = (int)statement.GetInt64(1),
            Hourly = (int)statement.GetInt64(2),
            Daily = (int)statement.GetInt64(3),
            Weekly = (int)statement.GetInt64(4),
            Monthly = (int)statement.GetInt64(5),
            Yearly = (int)statement.GetInt64(6),
            WithinHours = (int)statement.GetInt64(7),
        },
        statement.GetInt64(8) != 0, (int)statement.GetInt64(10), statement.GetInt64(9));
}

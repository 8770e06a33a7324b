using VirtBackup.Catalog.Dependencies;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>How it is told that a machine is ready. Values are stored.</summary>
public enum ProbeKind
{
    /// <summary>It runs; nothing else is asked.</summary>
    Started = 0,

    /// <summary>The guest's agent answers.</summary>
    GuestAgent = 1,

    /// <summary>A TCP connection to <see cref="ProbeRow.Target"/>, HOST:PORT, is accepted.</summary>
    Tcp = 2,

    /// <summary>A GET of <see cref="ProbeRow.Target"/> answers with a status from 200 to 399.</summary>
    Http = 3,

    /// <summary>The command that the agent's configuration calls <see cref="ProbeRow.Target"/> ends with exit code 0.</summary>
    Command = 4,
}

/// <summary>A machine's readiness probe.</summary>
/// <param name="TimeoutMs">From the start until the machine counts as failed.</param>
/// <param name="IntervalMs">Between tries.</param>
public sealed record ProbeRow(Id16 VmId, ProbeKind Kind, string Target, long TimeoutMs, long IntervalMs);

/// <summary>Which machine needs which, and how each tells that it is ready.</summary>
public sealed class DependencyRecords(IDatabase database)
{
    public const int CountMax = 10_000;

    /// <summary>Stores that a machine needs another; nothing happens when it does already.</summary>
    /// <returns>The circle that it would close, so that it was not stored: each machine needs the next, the first and the last are the same. Null: it is stored.</returns>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: there are <see cref="CountMax"/> of them.</exception>
    public ValueTask<IReadOnlyList<Id16>?> AddAsync(Dependency dependency, CancellationToken cancellationToken) =>
        database.WriteAsync<IReadOnlyList<Id16>?>(
            connection =>
            {
                // In the transaction that writes: two that come together must not close a circle.
                var stored = ReadAll(connection);
                if (stored.Contains(dependency))
                {
                    return null;
                }
                if (stored.Count >= CountMax)
                {
                    throw new FaultException(FaultReason.FailedPrecondition, $"There are {CountMax} dependencies already: remove some.");
                }
                if (new DependencyGraph(stored).FindWay(dependency.Needs, dependency.VmId) is { } way)
                {
                    return [dependency.VmId, .. way];
                }
                using var statement = connection.Prepare("INSERT INTO dependency (vm_id, needs) VALUES (?1, ?2)");
                statement.Bind(1, dependency.VmId).Bind(2, dependency.Needs).Execute();
                return null;
            },
            cancellationToken);

    /// <returns>Whether there was one.</returns>
    public ValueTask<bool> RemoveAsync(Dependency dependency, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("DELETE FROM dependency WHERE vm_id = ?1 AND needs = ?2 RETURNING 1");
                return statement.Bind(1, dependency.VmId).Bind(2, dependency.Needs).Step();
            },
            cancellationToken);

    public ValueTask<List<Dependency>> ListAsync(CancellationToken cancellationToken) => database.ReadAsync(ReadAll, cancellationToken);

    /// <summary>Replaces the machine's probe.</summary>
    public ValueTask SetProbeAsync(ProbeRow probe, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    """
                    INSERT INTO probe (vm_id, kind, target, timeout_ms, interval_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                    ON CONFLICT (vm_id) DO UPDATE SET kind = ?2, target = ?3, timeout_ms = ?4, interval_ms = ?5
                    """);
                statement.Bind(1, probe.VmId).Bind(2, (int)probe.Kind).Bind(3, probe.Target).Bind(4, probe.TimeoutMs).Bind(5, probe.IntervalMs).Execute();
            },
            cancellationToken);

    /// <returns>Whether there was one.</returns>
    public ValueTask<bool> RemoveProbeAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("DELETE FROM probe WHERE vm_id = ?1 RETURNING 1");
                return statement.Bind(1, vmId).Step();
            },
            cancellationToken);

    public ValueTask<Dictionary<Id16, ProbeRow>> ListProbesAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var probes = new Dictionary<Id16, ProbeRow>();
                using var statement = connection.Prepare("SELECT vm_id, kind, target, timeout_ms, interval_ms FROM probe");
                while (statement.Step())
                {
                    var vmId = statement.GetId16(0);
                    probes.Add(vmId, new ProbeRow(vmId, (ProbeKind)statement.GetInt64(1), statement.GetString(2)!, statement.GetInt64(3), statement.GetInt64(4)));
                }
                return probes;
            },
            cancellationToken);

    private static List<Dependency> ReadAll(ISqlConnection connection)
    {
        var dependencies = new List<Dependency>();
        using var statement = connection.Prepare("SELECT vm_id, needs FROM dependency ORDER BY vm_id, needs");
        while (statement.Step())
        {
            dependencies.Add(new Dependency(statement.GetId16(0), statement.GetId16(1)));
        }
        return dependencies;
    }
}

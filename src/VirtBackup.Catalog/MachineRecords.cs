using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>A virtual machine as its agent last reported it.</summary>
public sealed record MachineRow
{
    public required Id16 VmId { get; init; }

    public required string Name { get; init; }

    /// <summary>The agent that reported it last.</summary>
    public required string Agent { get; init; }

    public bool Running { get; init; }

    /// <summary>Why it cannot be captured now; empty: it can.</summary>
    public string Problem { get; init; } = "";

    /// <summary>Its agent still reports it.</summary>
    public bool Present { get; init; }

    /// <summary>The peer that its points came from, of a machine that no agent here ever reported; empty: one did.</summary>
    public string Peer { get; init; } = "";

    public IReadOnlyList<DiskRow> Disks { get; init; } = [];
}

/// <param name="SkipReason">Why it is not backed up; empty: it is.</param>
public sealed record DiskRow(string DiskId, string Name, long LengthBytes, string Format, string SkipReason);

/// <summary>Virtual machines and their disks.</summary>
public sealed class MachineRecords(IDatabase database)
{
    private const string Columns = "vm_id, name, agent, running, problem, present, peer";

    /// <summary>
    /// Takes an agent's inventory: its machines are these and no others. A machine that another agent reported before
    /// has moved here; one that is missing stays known as not present.
    /// </summary>
    public ValueTask ReplaceAsync(string agent, IReadOnlyCollection<MachineRow> machines, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using (var gone = connection.Prepare("UPDATE machine SET present = 0, running = 0 WHERE agent = ?1"))
                {
                    gone.Bind(1, agent).Execute();
                }
                foreach (var machine in machines)
                {
                    Save(connection, machine);
                }
            },
            cancellationToken);

    /// <summary>The machine is on another agent's host from now on; that one's next inventory tells the rest.</summary>
    public ValueTask MoveAsync(Id16 vmId, string agent, bool running, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE machine SET agent = ?2, present = 1, running = ?3, problem = '' WHERE vm_id = ?1");
                statement.Bind(1, vmId).Bind(2, agent).Bind(3, running ? 1 : 0).Execute();
            },
            cancellationToken);

    /// <summary>Points of the machine came from a peer. Nothing changes when an agent here has reported it.</summary>
    public ValueTask NoteElsewhereAsync(Id16 vmId, string name, string peer, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    $"INSERT INTO machine ({Columns}) VALUES (?1, ?2, '', 0, '', 0, ?3) ON CONFLICT (vm_id) DO UPDATE SET name = ?2, peer = ?3 WHERE peer <> ''");
                statement.Bind(1, vmId).Bind(2, name).Bind(3, peer).Execute();
            },
            cancellationToken);

    public ValueTask<MachineRow?> FindAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM machine WHERE vm_id = ?1");
                return statement.Bind(1, vmId).Step() ? WithDisks(connection, Read(statement)) : null;
            },
            cancellationToken);

    /// <summary>Machines whose name is <paramref name="name"/>, without disks; at most <paramref name="count"/>.</summary>
    public ValueTask<List<MachineRow>> FindByNameAsync(string name, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM machine WHERE name = ?1 ORDER BY present DESC, vm_id LIMIT ?2");
                return ReadAll(statement.Bind(1, name).Bind(2, count));
            },
            cancellationToken);

    /// <summary>Machines whose id lies between the two, without disks; at most <paramref name="count"/>.</summary>
    public ValueTask<List<MachineRow>> FindByRangeAsync(Id16 first, Id16 last, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM machine WHERE vm_id >= ?1 AND vm_id <= ?2 ORDER BY vm_id LIMIT ?3");
                return ReadAll(statement.Bind(1, first).Bind(2, last).Bind(3, count));
            },
            cancellationToken);

    /// <summary>Machines with disks in the order of names, behind the machine given; null: from the first.</summary>
    public ValueTask<List<MachineRow>> ListAsync((string Name, Id16 VmId)? after, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    $"SELECT {Columns} FROM machine WHERE name > ?1 OR (name = ?1 AND vm_id > ?2) OR ?4 = 1 ORDER BY name, vm_id LIMIT ?3");
                statement.Bind(1, after?.Name ?? "").Bind(2, after?.VmId ?? Id16.Empty).Bind(3, count).Bind(4, after is null ? 1 : 0);
                return ReadAll(statement).ConvertAll(row => WithDisks(connection, row));
            },
            cancellationToken);

    public ValueTask<int> CountAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare("SELECT count(*) FROM machine WHERE present = 1");
                statement.Step();
                return (int)statement.GetInt64(0);
            },
            cancellationToken);

    /// <summary>How many machines each agent has.</summary>
    public ValueTask<Dictionary<string, int>> CountByAgentAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var counts = new Dictionary<string, int>(StringComparer.Ordinal);
                using var statement = connection.Prepare("SELECT agent, count(*) FROM machine WHERE present = 1 GROUP BY agent");
                while (statement.Step())
                {
                    counts.Add(statement.GetString(0)!, (int)statement.GetInt64(1));
                }
                return counts;
            },
            cancellationToken);

    private static void Save(ISqlConnection connection, MachineRow machine)
    {
        using (var statement = connection.Prepare(
            $"INSERT INTO machine ({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, '') ON CONFLICT (vm_id) DO UPDATE SET name = ?2, agent = ?3, running = ?4, problem = ?5, present = ?6, peer = ''"))
        {
            statement.Bind(1, machine.VmId).Bind(2, machine.Name).Bind(3, machine.Agent).Bind(4, machine.Running ? 1 : 0)
                .Bind(5, machine.Problem).Bind(6, machine.Present ? 1 : 0).Execute();
        }
        using (var old = connection.Prepare("DELETE FROM disk WHERE vm_id = ?1"))
        {
            old.Bind(1, machine.VmId).Execute();
        }
        using var disks = connection.Prepare(
            "INSERT INTO disk (vm_id, position, disk_id, name, length_bytes, format, skip_reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
        for (var i = 0; i < machine.Disks.Count; i++)
        {
            var disk = machine.Disks[i];
            disks.Bind(1, machine.VmId).Bind(2, i).Bind(3, disk.DiskId).Bind(4, disk.Name).Bind(5, disk.LengthBytes)
                .Bind(6, disk.Format).Bind(7, disk.SkipReason).Execute();
        }
    }

    private static MachineRow WithDisks(ISqlConnection connection, MachineRow machine)
    {
        var disks = new List<DiskRow>();
        using var statement = connection.Prepare("SELECT disk_id, name, length_bytes, format, skip_reason FROM disk WHERE vm_id = ?1 ORDER BY position");
        statement.Bind(1, machine.VmId);
        while (statement.Step())
        {
            disks.Add(new DiskRow(statement.GetString(0)!, statement.GetString(1)!, statement.GetInt64(2), statement.GetString(3)!, statement.GetString(4)!));
        }
        return machine with { Disks = disks };
    }

    private static List<MachineRow> ReadAll(IStatement statement)
    {
        var rows = new List<MachineRow>();
        while (statement.Step())
        {
            rows.Add(Read(statement));
        }
        return rows;
    }

    private static MachineRow Read(IStatement statement) => new()
    {
        VmId = statement.GetId16(0),
        Name = statement.GetString(1)!,
        Agent = statement.GetString(2)!,
        Running = statement.GetInt64(3) != 0,
        Problem = statement.GetString(4)!,
        Present = statement.GetInt64(5) != 0,
        Peer = statement.GetString(6)!,
    };
}

using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>What the newest verification of each recovery point found.</summary>
public sealed class CheckRecords(IDatabase database)
{
    /// <summary>Replaces what was known of these points. <paramref name="nowMs"/>: Unix milliseconds.</summary>
    public ValueTask SaveAsync(IReadOnlyCollection<(Id16 Point, bool IsSound)> found, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    "INSERT INTO point_check (point_id, checked_ms, sound) VALUES (?1, ?2, ?3) ON CONFLICT (point_id) DO UPDATE SET checked_ms = ?2, sound = ?3");
                foreach (var (point, isSound) in found)
                {
                    statement.Bind(1, point).Bind(2, nowMs).Bind(3, isSound ? 1 : 0).Execute();
                }
            },
            cancellationToken);

    /// <summary>The machine's points that were verified last as sound.</summary>
    public ValueTask<HashSet<Id16>> ListSoundAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var points = new HashSet<Id16>();
                using var statement = connection.Prepare("SELECT c.point_id FROM point_check c JOIN point p ON p.point_id = c.point_id WHERE p.vm_id = ?1 AND c.sound = 1");
                statement.Bind(1, vmId);
                while (statement.Step())
                {
                    points.Add(statement.GetId16(0));
                }
                return points;
            },
            cancellationToken);
}

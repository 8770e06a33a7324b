using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Index;

/// <summary>Sums over the packs; cheap, because a pack row carries its own counts.</summary>
internal static class StatisticsQuery
{
    public static RepositoryStatistics Run(ISqlConnection connection)
    {
        long packs = 0, packBytes = 0, chunks = 0, chunkBytes = 0, nodes = 0;
        using var sums = connection.Prepare("SELECT kind, count(*), sum(bytes), sum(records), sum(raw_bytes) FROM pack WHERE state = 0 GROUP BY kind");
        while (sums.Step())
        {
            packs += sums.GetInt64(1);
            packBytes += sums.GetInt64(2);
            if ((RecordKind)sums.GetInt64(0) == RecordKind.Data)
            {
                chunks += sums.GetInt64(3);
                chunkBytes += sums.GetInt64(4);
            }
            else
            {
                nodes += sums.GetInt64(3);
            }
        }
        using var points = connection.Prepare("SELECT count(*) FROM point WHERE forgotten_ms = 0");
        Check.That(points.Step());
        return new RepositoryStatistics(packs, packBytes, chunks, chunkBytes, nodes, points.GetInt64(0));
    }
}

using VirtBackup.Core;
using VirtBackup.Repository;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Controller.Replication.Source;

/// <summary>The points that one stream reads: held while they are open, so that they are not purged meanwhile. One call at a time.</summary>
internal sealed class PointReads(BackupRepository repository) : IDisposable
{
    /// <summary>Open points of one stream.</summary>
    private const int PointsMax = 16;

    private readonly Dictionary<Id16, (RecoveryPointReader Reader, IDisposable Hold)> _open = [];

    /// <summary>The point, opened and held if it is not yet. Whether the peer may read it is the caller's to judge.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>; <see cref="FaultReason.FailedPrecondition"/>: too many are open.</exception>
    public async ValueTask<RecoveryPointReader> OpenAsync(Id16 point, CancellationToken cancellationToken)
    {
        if (_open.TryGetValue(point, out var known))
        {
            return known.Reader;
        }
        if (_open.Count == PointsMax)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"A stream reads at most {PointsMax} recovery points at a time: release some.");
        }
        var hold = repository.HoldPoint(point);
        try
        {
            var reader = await repository.Serving.OpenAsync(point, cancellationToken);
            _open.Add(point, (reader, hold));
            return reader;
        }
        catch
        {
            hold.Dispose();
            throw;
        }
    }

    public void Release(Id16 point)
    {
        if (_open.Remove(point, out var closed))
        {
            closed.Hold.Dispose();
        }
    }

    public void Dispose()
    {
        foreach (var (_, hold) in _open.Values)
        {
            hold.Dispose();
        }
        _open.Clear();
    }
}

using VirtBackup.Protocol.Replication.V1;

namespace VirtBackup.Protocol.Transport;

/// <summary>
/// The replication service of another controller as a caller sees it. Failures arrive as <see cref="Core.FaultException"/>.
/// Safe for concurrent use; each stream goes by the rules of <see cref="IDuplex{TSend,TReceive}"/>.
/// </summary>
public interface IReplicationTransport : IAsyncDisposable
{
    /// <summary>A stream on which this side asks.</summary>
    IDuplex<Ask, Answer> Pull(CancellationToken cancellationToken);

    /// <summary>A stream on which this side answers.</summary>
    IDuplex<Answer, Ask> Offer(CancellationToken cancellationToken);
}

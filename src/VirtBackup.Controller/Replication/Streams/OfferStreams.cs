using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Controller.Replication.Streams;

/// <summary>A stream that the source opened, as the receiver uses it: like one that the receiver opened itself.</summary>
internal sealed class OfferedStream(IServerDuplex<Answer, Ask> stream, CancellationToken broken) : IDuplex<Ask, Answer>
{
    private readonly TaskCompletionSource _over = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Completes when the receiver has let go of the stream.</summary>
    public Task Over => _over.Task;

    /// <summary>The source went away.</summary>
    public bool IsBroken => broken.IsCancellationRequested;

    public ValueTask SendAsync(Ask message, CancellationToken cancellationToken) => stream.SendAsync(message, cancellationToken);

    public ValueTask CompleteAsync()
    {
        _over.TrySetResult();
        return ValueTask.CompletedTask;
    }

    public IAsyncEnumerable<Answer> ReceiveAsync(CancellationToken cancellationToken) => stream.ReceiveAsync(cancellationToken);

    public ValueTask DisposeAsync() => CompleteAsync();
}

/// <summary>A stream that this side opened to answer on.</summary>
internal sealed class AnsweringEnd(IDuplex<Answer, Ask> stream) : IServerDuplex<Ask, Answer>
{
    private const int MessagesPerFlush = 4;

    private int _sent;

    /// <summary>Whether the answer goes on behind this part, so that it need not be sent at once.</summary>
    public static bool IsFollowed(Answer message) => message is { PartCase: Answer.PartOneofCase.Data, Last: false };

    public IAsyncEnumerable<Ask> ReceiveAsync(CancellationToken cancellationToken) => stream.ReceiveAsync(cancellationToken);

    public ValueTask SendAsync(Answer message, CancellationToken cancellationToken) =>
        IsFollowed(message) && ++_sent % MessagesPerFlush != 0 ? stream.GatherAsync(message, cancellationToken) : stream.SendAsync(message, cancellationToken);
}

namespace VirtBackup.Controller.Replication.Streams;

/// <summary>Slows down what is received. Safe for concurrent use.</summary>
internal interface IPace
{
    /// <summary>Notes that bytes came, and waits until more may come.</summary>
    ValueTask SpendAsync(int bytes, CancellationToken cancellationToken);
}

/// <summary>Does not wait.</summary>
internal sealed class NoPace : IPace
{
    public static NoPace Instance { get; } = new();

    public ValueTask SpendAsync(int bytes, CancellationToken cancellationToken) => ValueTask.CompletedTask;
}

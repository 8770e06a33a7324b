using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Agent.Restore.Starting;

/// <summary>The gate before a machine's start, as the newest assignments have it. What was decided stays so. Safe for concurrent use.</summary>
public sealed class StartGate
{
    private readonly TaskCompletionSource<bool> _decided = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public void Set(StartOrder? order)
    {
        switch (order?.Gate)
        {
            case StartOrder.Types.Gate.Open:
                _decided.TrySetResult(true);
                break;
            case StartOrder.Types.Gate.StayOff:
                _decided.TrySetResult(false);
                break;
        }
    }

    /// <returns>Whether the machine is to be started.</returns>
    public Task<bool> WaitAsync(CancellationToken cancellationToken) => _decided.Task.WaitAsync(cancellationToken);
}

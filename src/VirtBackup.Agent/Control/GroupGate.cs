using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Agent.Control;

/// <summary>
/// Between a run that waits for the machines of its group and the control stream: what was reached is reported until the job ends,
/// what all have reached is heard with every list of assignments, so that repetition does no harm. Before the guest is touched a broken
/// link costs time only; later the controller gives the cut up, and so the guest waits no longer. Safe for concurrent use.
/// </summary>
/// <param name="news">Called when there is something to report.</param>
internal sealed class GroupGate(Action news) : ICutGate
{
    private readonly Lock _lock = new();
    private readonly List<(CutStep Step, TaskCompletionSource Passed)> _waiting = [];
    private CutStep _passed;
    private CutStep _reached;
    private bool _held;

    /// <summary>For the job's next report.</summary>
    public (CutStep Reached, bool Held) State
    {
        get
        {
            lock (_lock)
            {
                return (_reached, _held);
            }
        }
    }

    /// <summary>All members have reached this step.</summary>
    public void Pass(CutStep step)
    {
        List<TaskCompletionSource> passed;
        lock (_lock)
        {
            _passed = step > _passed ? step : _passed;
            passed = [.. _waiting.Where(waiting => waiting.Step <= _passed).Select(waiting => waiting.Passed)];
            _waiting.RemoveAll(waiting => waiting.Step <= _passed);
        }
        foreach (var waiting in passed)
        {
            waiting.TrySetResult();
        }
    }

    /// <summary>Nobody tells what the others have reached.</summary>
    public void Break()
    {
        List<TaskCompletionSource> broken;
        lock (_lock)
        {
            broken = [.. _waiting.Where(static waiting => waiting.Step > CutStep.Ready).Select(static waiting => waiting.Passed)];
            _waiting.RemoveAll(static waiting => waiting.Step > CutStep.Ready);
        }
        foreach (var waiting in broken)
        {
            waiting.TrySetException(new FaultException(FaultReason.Unavailable, "The link to the controller broke during the cut of the group; the guest goes on."));
        }
    }

    public ValueTask ReadyAsync(CancellationToken cancellationToken) => ReachAsync(CutStep.Ready, cancellationToken);

    public ValueTask PreparedAsync(CancellationToken cancellationToken) => ReachAsync(CutStep.Prepared, cancellationToken);

    public ValueTask FrozenAsync(CancellationToken cancellationToken) => ReachAsync(CutStep.Frozen, cancellationToken);

    public ValueTask CutAsync(CancellationToken cancellationToken) => ReachAsync(CutStep.Cut, cancellationToken);

    public void Released(bool held)
    {
        lock (_lock)
        {
            (_reached, _held) = (CutStep.Released, held);
        }
        news();
    }

    private async ValueTask ReachAsync(CutStep step, CancellationToken cancellationToken)
    {
        Task passed;
        lock (_lock)
        {
            _reached = step;
            if (_passed >= step)
            {
                return;
            }
            var waiting = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _waiting.Add((step, waiting));
            passed = waiting.Task;
        }
        news();
        await passed.WaitAsync(cancellationToken);
    }
}

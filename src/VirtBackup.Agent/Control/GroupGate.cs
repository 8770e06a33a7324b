using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Agent.Control;

/// <summary>
/// Between a run that waits for the machines of its group and the control stream: what was reached is reported until the job ends,
/// what all have reached is heard with every list of assignments, so that a broken link costs time and no step. Safe for concurrent use.
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

using VirtBackup.Agent.Capture;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Proofs.Installation;

/// <summary>One process of an agent, from its start to its death.</summary>
internal sealed class AgentLife(Cable cable, BackupContext context) : IDisposable
{
    private readonly CancellationTokenSource _over = new();

    public Cable Cable => cable;

    public BackupContext Context => context;

    public bool IsOver => _over.IsCancellationRequested;

    /// <summary>Cancelled when the process is dead, so that what it ran ends.</summary>
    public CancellationToken Over => _over.Token;

    /// <summary>The process dies: nothing that it still does reaches anybody.</summary>
    public void End()
    {
        if (!IsOver)
        {
            cable.Cut();
            _over.Cancel();
        }
    }

    public void Dispose() => context.VmKeys.Dispose();
}

/// <summary>A hypervisor as one process of an agent uses it: when that is dead, what it left open stays open.</summary>
/// <param name="inner">What is used.</param>
/// <param name="life">Of the process.</param>
/// <param name="cutting">Called before each cut.</param>
internal sealed class MortalHypervisor(IHypervisor inner, AgentLife life, Action cutting) : IHypervisor
{
    public string Kind => inner.Kind;

    public ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken) => Living().ListMachinesAsync(cancellationToken);

    public ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken) => Living().ReleaseGuestsAsync(cancellationToken);

    public ValueTask<IReadOnlyList<Id16>> ListTrackedPointsAsync(Id16 id, CancellationToken cancellationToken) => Living().ListTrackedPointsAsync(id, cancellationToken);

    public ValueTask<Id16?> SettleAsync(Id16 id, IReadOnlySet<Id16> committed, CancellationToken cancellationToken) => Living().SettleAsync(id, committed, cancellationToken);

    public ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken) => Living().PlanCaptureAsync(request, cancellationToken);

    public async ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        cutting();
        return new Capture(await Living().BeginCaptureAsync(request, cancellationToken), life);
    }

    public ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) =>
        Living().CheckRestoreAsync(request, cancellationToken);

    public ValueTask<IRestore> BeginRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) => Living().BeginRestoreAsync(request, cancellationToken);

    private IHypervisor Living()
    {
        life.Over.ThrowIfCancellationRequested();
        return inner;
    }

    private sealed class Capture(ICapture inner, AgentLife life) : ICapture
    {
        public MachineConfiguration Configuration => inner.Configuration;

        public CaptureConsistency Consistency => inner.Consistency;

        public string ConsistencyDetail => inner.ConsistencyDetail;

        public IReadOnlyList<ICapturedDisk> Disks => inner.Disks;

        public IReadOnlyList<DiskSummary> SkippedDisks => inner.SkippedDisks;

        public ValueTask CommitAsync(CancellationToken cancellationToken) => life.IsOver ? ValueTask.CompletedTask : inner.CommitAsync(cancellationToken);

        public ValueTask AbandonAsync(CancellationToken cancellationToken) => life.IsOver ? ValueTask.CompletedTask : inner.AbandonAsync(cancellationToken);

        public ValueTask DetachAsync(CancellationToken cancellationToken) => life.IsOver ? ValueTask.CompletedTask : inner.DetachAsync(cancellationToken);

        public ValueTask DisposeAsync() => life.IsOver ? ValueTask.CompletedTask : inner.DisposeAsync();
    }
}

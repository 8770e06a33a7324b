using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Tests.Fakes;

/// <summary>Moves of disks in name only.</summary>
internal sealed partial class FakeHypervisor : IStorageMover
{
    /// <summary>Called when a move is half done.</summary>
    public Func<CancellationToken, Task> OnMove { get; set; } = _ => Task.CompletedTask;

    public StorageMoveRequest? LastMove { get; private set; }

    public IReadOnlyList<RestoreFinding> MoveFindings { get; set; } = [new RestoreFinding("space", FindingSeverity.Fits, "There is room.")];

    public ValueTask<StorageMovePlan> CheckMoveAsync(StorageMoveRequest request, CancellationToken cancellationToken)
    {
        LastMove = request;
        return new(new StorageMovePlan(machine, true, "a -> b", Planned(request), MoveFindings));
    }

    public ValueTask<MoveSample> SampleMoveAsync(StorageMovePlan plan, CancellationToken cancellationToken) => new(new MoveSample(plan.DataBytes, 0.5));

    public async ValueTask<StorageMoveOutcome> MoveAsync(StorageMoveRequest request, CancellationToken cancellationToken)
    {
        LastMove = request;
        request.Progress(new StorageMoveProgress("copying", 100, 40));
        await OnMove(cancellationToken);
        // The guest wrote meanwhile.
        request.Progress(new StorageMoveProgress("copying", 150, 150));
        request.Progress(new StorageMoveProgress("changing over", 150, 150));
        return new StorageMoveOutcome([.. Planned(request).Select(static move => new MovedDisk(move, 150, TimeSpan.FromSeconds(2)))], TimeSpan.FromMilliseconds(12), ["/old/kept"], MoveFindings);
    }

    private List<PlannedMove> Planned(StorageMoveRequest request) =>
        [.. disks.Select(disk => new PlannedMove(disk.Summary, $"/old/{disk.Summary.Name}", $"{request.Target}/{disk.Summary.Name}", request.Format ?? "raw", 100))];
}

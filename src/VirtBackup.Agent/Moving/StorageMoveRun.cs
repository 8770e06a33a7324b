using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Common.V1;
using DiskMove = VirtBackup.Hypervisors.DiskMove;
using MovedDisk = VirtBackup.Protocol.Common.V1.MovedDisk;
using RestoreFinding = VirtBackup.Protocol.Common.V1.RestoreFinding;

namespace VirtBackup.Agent.Moving;

/// <summary>One move of a machine's disks to another storage of this host, or its check.</summary>
internal sealed class StorageMoveRun(BackupContext context, IHypervisor hypervisor, Id16 machine, StorageMoveOptions options, RunProgress progress)
{
    private const int FindingsMax = 256;
    private long _total;
    private long _done;

    /// <exception cref="FaultException">Nothing was moved and nothing is left, unless the message says otherwise.</exception>
    public async Task<StorageMoveResult> RunAsync(CancellationToken cancellationToken)
    {
        var begun = context.Tools.Time.GetTimestamp();
        IDisposable? urgent = null;
        try
        {
            progress.Enter("checking");
            var outcome = await Mover.MoveAsync(Request() with { Log = progress.Log, Progress = Tell }, cancellationToken);
            var result = new StorageMoveResult
            {
                BytesMoved = (ulong)outcome.Disks.Sum(static disk => disk.BytesMoved),
                ElapsedSeconds = context.Tools.Time.GetElapsedTime(begun).TotalSeconds,
                InterruptionUs = Microseconds(outcome.Interruption),
            };
            result.Disks.AddRange(outcome.Disks.Select(disk => MessageOf(disk.Move, disk.BytesMoved, disk.Elapsed, outcome.Interruption)));
            result.Findings.AddRange(outcome.Findings.Take(FindingsMax).Select(MessageOf));
            result.KeptPaths.AddRange(outcome.KeptPaths);
            if (outcome.Interruption is { } interruption)
            {
                progress.Log($"The machine stood still for {interruption.TotalMilliseconds:0} ms.");
            }
            return result;
        }
        finally
        {
            urgent?.Dispose();
        }

        void Tell(StorageMoveProgress news)
        {
            if (news.Phase != progress.Phase)
            {
                progress.Enter(news.Phase);
            }
            // Totals grow while the guest writes; what was copied never shrinks.
            progress.AddTotal(news.BytesTotal - _total);
            progress.AddDone(Math.Max(0, news.BytesDone - _done));
            _total = news.BytesTotal;
            _done = Math.Max(_done, news.BytesDone);
            if (news.Phase == "changing over")
            {
                // The guest waits for what follows.
                urgent ??= context.Tools.BeginUrgent?.Invoke();
            }
        }
    }

    /// <summary>Compares the storage, and measures the way from one to the other; nothing is left there.</summary>
    public async Task<StorageMoveCheck> CheckAsync(CancellationToken cancellationToken)
    {
        progress.Enter("checking");
        var plan = await Mover.CheckMoveAsync(Request(), cancellationToken);
        var check = new StorageMoveCheck { DataBytes = (ulong)plan.DataBytes, Path = plan.Path };
        check.Findings.AddRange(plan.Findings.Take(FindingsMax).Select(MessageOf));
        check.Disks.AddRange(plan.Disks.Select(static move => MessageOf(move, move.DataBytes, TimeSpan.Zero, null)));
        if (!plan.Refused && !options.SkipSample)
        {
            progress.Enter("measuring");
            var sample = await Mover.SampleMoveAsync(plan, cancellationToken);
            check.SampleBytes = (ulong)sample.Bytes;
            check.SampleSeconds = sample.Seconds;
        }
        return check;
    }

    private IStorageMover Mover => hypervisor as IStorageMover
        ?? throw new FaultException(FaultReason.Unsupported, $"Disks of machines of the kind '{hypervisor.Kind}' cannot be moved by the agent: their places are written in agent.yaml. Move the files while the machine is off, and change the paths there.");

    private StorageMoveRequest Request()
    {
        if (options.Target.Length == 0 && (options.Disks.Count == 0 || options.Disks.Any(static disk => disk.Target.Length == 0)))
        {
            throw new FaultException(FaultReason.InvalidArgument, "Nothing says where the disks are to go. Name a folder.");
        }
        return new StorageMoveRequest(machine, options.Target)
        {
            Format = Named(options.Format),
            Disks = [.. options.Disks.Select(static disk => new DiskMove(disk.Name, Named(disk.Target), Named(disk.Format)))],
            BytesPerSecondMax = (long)Math.Min(options.BytesPerSecondMax, long.MaxValue),
            KeepSource = options.KeepSource,
        };
    }

    private static string? Named(string text) => text.Length == 0 ? null : text;

    private static ulong Microseconds(TimeSpan? time) => time is { } known ? (ulong)Math.Max(1, known.TotalMicroseconds) : 0;

    private static MovedDisk MessageOf(PlannedMove move, long bytes, TimeSpan elapsed, TimeSpan? interruption) => new()
    {
        Name = move.Disk.Name, OldPath = move.OldPath, NewPath = move.NewPath, Format = move.Format, LengthBytes = (ulong)move.Disk.LengthBytes,
        BytesMoved = (ulong)bytes, ElapsedSeconds = elapsed.TotalSeconds, InterruptionUs = Microseconds(interruption),
    };

    private static RestoreFinding MessageOf(Hypervisors.RestoreFinding finding) => new()
    {
        Item = finding.Item, Message = finding.Message, Severity = finding.Severity switch
        {
            FindingSeverity.Fits => RestoreFinding.Types.Severity.Fits,
            FindingSeverity.Adapts => RestoreFinding.Types.Severity.Adapts,
            FindingSeverity.Unknown => RestoreFinding.Types.Severity.Unknown,
            _ => RestoreFinding.Types.Severity.Blocks,
        },
    };
}

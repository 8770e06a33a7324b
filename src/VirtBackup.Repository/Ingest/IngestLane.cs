using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Ingest;

/// <summary>
/// A byte stream of records on its way into packs. Bytes are appended in slices of any size; a record may span slices.
/// Every header is checked before its payload is taken, map nodes are checked whole, and the very same bytes go into the
/// pack. While one pack is published the next is received: never more than two are staged.
/// </summary>
/// <remarks>
/// One caller at a time for <see cref="AppendAsync"/>, <see cref="FlushAsync"/>, <see cref="RewindAsync"/> and
/// <see cref="DisposeAsync"/>; <see cref="DurableOffset"/> and <see cref="WaitForDurableAsync"/> may be used at any time.
/// After a failure the lane refuses everything until it is rewound: nothing of the staged packs is kept.
/// A record whose id and scope the staged pack holds already is acknowledged, not stored a second time.
/// </remarks>
public sealed class IngestLane : IAsyncDisposable
{
    private readonly IngestSession _session;
    private readonly RecordFramer _framer;
    private readonly DurableProgress _progress = new();
    private readonly CancellationTokenSource _stopping = new();
    private StagedPack? _pack;
    private Task _publishing = Task.CompletedTask;
    private Exception? _failure;
    private long _boundary;
    private bool _closeAtBoundary;

    internal IngestLane(IngestSession session, RecordKind kind)
    {
        _session = session;
        _framer = new RecordFramer(kind, session.Scope, session.OnlyGeneration);
        Kind = kind;
    }

    public RecordKind Kind { get; }

    /// <summary>Bytes taken so far, from the lane's start.</summary>
    public long AppendedOffset { get; private set; }

    /// <summary>All bytes below it are on stable storage and indexed; always a record boundary.</summary>
    public long DurableOffset => _progress.Offset;

    /// <summary>Takes the lane's next bytes, at <see cref="AppendedOffset"/>. May wait for a pack to be published.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Malformed"/>: not a record of this lane; <see cref="FaultReason.Denied"/>: of another scope;
    /// <see cref="FaultReason.DeviceFull"/>, <see cref="FaultReason.Unavailable"/>: the store failed.
    /// </exception>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask AppendAsync(ReadOnlyMemory<byte> slice, CancellationToken cancellationToken)
    {
        RequireHealthy();
        try
        {
            while (slice.Length > 0)
            {
                var step = _framer.Take(slice, AppendedOffset);
                await ApplyAsync(step, cancellationToken);
                AppendedOffset += step.Consumed;
                slice = slice[step.Consumed..];
                if (step.Completed is { } header)
                {
                    await CompleteRecordAsync(header, cancellationToken);
                }
            }
        }
        catch (Exception exception)
        {
            await FailAsync(exception);
            throw;
        }
    }

    /// <summary>
    /// Makes all whole records durable and returns when they are. Inside a record, the pack is closed as soon as that
    /// record is whole, and this call does not wait for it.
    /// </summary>
    public async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        RequireHealthy();
        try
        {
            if (_framer.IsInsideRecord)
            {
                _closeAtBoundary = true;
            }
            else
            {
                await CloseAsync(cancellationToken);
            }
            await _publishing.WaitAsync(cancellationToken);
        }
        catch (Exception exception)
        {
            await FailAsync(exception);
            throw;
        }
    }

    /// <summary>
    /// Begins anew at <see cref="DurableOffset"/>: what is not durable is dropped, a failure is forgotten. For a sender
    /// that came back, or after an error of the store.
    /// </summary>
    /// <returns>The offset of the next byte to append.</returns>
    public async ValueTask<long> RewindAsync(CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(_stopping.IsCancellationRequested, this);
        // A pack that is being published may still become durable: its fate must be known before anything is sent again.
        await SettleAsync().WaitAsync(cancellationToken);
        await DropStagedAsync();
        _publishing = Task.CompletedTask;
        _framer.Reset();
        _closeAtBoundary = false;
        _failure = null;
        _progress.Revive();
        AppendedOffset = _boundary = DurableOffset;
        return DurableOffset;
    }

    /// <summary>Returns once <see cref="DurableOffset"/> is beyond <paramref name="offset"/>.</summary>
    /// <exception cref="FaultException">The lane failed.</exception>
    public ValueTask<long> WaitForDurableAsync(long offset, CancellationToken cancellationToken) => _progress.WaitAsync(offset, cancellationToken);

    /// <summary>Drops what is not durable.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_stopping.IsCancellationRequested)
        {
            return;
        }
        await _stopping.CancelAsync();
        await FailAsync(new FaultException(FaultReason.Cancelled, "The upload was ended."));
        _framer.Dispose();
        _stopping.Dispose();
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask ApplyAsync(RecordFramer.Step step, CancellationToken cancellationToken)
    {
        if (step.Begun is { } header)
        {
            _pack ??= await _session.CreatePackAsync(Kind, cancellationToken);
            _framer.IsDuplicate = _pack.Contains(header);
        }
        if (_framer.IsDuplicate || _pack is null)
        {
            return;
        }
        if (step.First.Length > 0)
        {
            await _pack.AppendAsync(step.First, cancellationToken);
        }
        if (step.Second.Length > 0)
        {
            await _pack.AppendAsync(step.Second, cancellationToken);
        }
    }

    private async ValueTask CompleteRecordAsync(RecordHeader header, CancellationToken cancellationToken)
    {
        _boundary = AppendedOffset;
        Check.That(_pack is not null);
        if (!_framer.IsDuplicate)
        {
            _pack.Complete(header);
        }
        if (_closeAtBoundary || _pack.RecordBytes >= _session.PackBytesTarget || _pack.Count == Limits.PackRecordsMax)
        {
            await CloseAsync(cancellationToken);
        }
    }

    /// <summary>Hands the staged pack over for publishing, behind the one before it.</summary>
    private async ValueTask CloseAsync(CancellationToken cancellationToken)
    {
        _closeAtBoundary = false;
        await _publishing.WaitAsync(cancellationToken);
        if (_pack is null)
        {
            return;
        }
        var (pack, boundary) = (_pack, _boundary);
        _pack = null;
        _publishing = PublishAsync(pack, boundary);
    }

    private async Task PublishAsync(StagedPack pack, long boundary)
    {
        try
        {
            await Task.Yield();
            await using (pack)
            {
                await _session.StoreAsync(pack, _stopping.Token);
            }
            _progress.Advance(boundary);
        }
        catch (Exception exception)
        {
            _progress.Fail(exception);
            throw;
        }
    }

    private async ValueTask FailAsync(Exception exception)
    {
        _failure ??= exception;
        _progress.Fail(_failure);
        await DropStagedAsync();
        await SettleAsync();
    }

    /// <summary>Waits until the pack under way is durable or lost; its failure is already noted in the progress.</summary>
    private async Task SettleAsync() => await _publishing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);

    private async ValueTask DropStagedAsync()
    {
        if (_pack is { } pack)
        {
            _pack = null;
            await pack.DisposeAsync();
        }
    }

    private void RequireHealthy()
    {
        ObjectDisposedException.ThrowIf(_stopping.IsCancellationRequested, this);
        if (_failure is { } failure)
        {
            throw new FaultException((failure as FaultException)?.Reason ?? FaultReason.FailedPrecondition, failure.Message, failure);
        }
    }
}
